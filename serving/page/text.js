// Texts, which a model wrote: they are shown as text only, never as markup.
import { metaOf } from "./model.js";
import { copy, icon } from "./take.js";

const WORDS = /[\p{L}\p{N}_]+(?:['\u2019-][\p{L}\p{N}_]+)*|[^\p{L}\p{N}_\s]/gu;
const BREAKS = /[\\\n\r\v\f\x1c-\x1e\x85\u2028\u2029]/g;
const NAMED = { "\\": "\\\\", "\n": "\\n", "\r": "\\r" };

const argmax = (weights) => weights.reduce((best, x, i) => (x > weights[best] ? i : best), 0);
const areCharacters = (tokens) => tokens.length > 0 && tokens.every((token) => [...token].length <= 1);

/** Returns the text of a sample: the server's, or the most probable token at each step up to the end token "". */
export function textOf(model, { text, values }) {
  if (text !== undefined) return text;
  const tokens = metaOf(model).vocabulary ?? [];
  const ids = values.map((x) => (Array.isArray(x) ? argmax(x) : x));
  const end = ids.findIndex((id) => tokens[id] === "");
  const shown = end < 0 ? ids : ids.slice(0, end);
  return shown.map((id) => tokens[id] ?? id).join(areCharacters(tokens) ? "" : " ");
}

/** Returns a text on one line, as the server writes several into one .txt file. */
export const toLine = (text) =>
  text.replace(BREAKS, (found) => NAMED[found] ?? `\\u${found.charCodeAt(0).toString(16).padStart(4, "0")}`);

/** Returns a paragraph; it starts at the side of its own script. */
export function paragraph(text, tag = "p") {
  const element = document.createElement(tag);
  element.className = text ? "said" : "said empty";
  element.dir = "auto";
  element.textContent = text;
  return element;
}

/** Draws a text on a tile. */
export function textFace(model, sample) {
  const element = paragraph(textOf(model, sample), "span");
  element.classList.add("words");
  return element;
}

/** Shows one text large, with a button that copies it. */
export function textBody(model, sample) {
  const text = textOf(model, sample);
  const holder = document.createElement("div");
  holder.className = "page-of-text";
  holder.tabIndex = 0; // scrolls by keyboard
  holder.role = "region";
  holder.setAttribute("aria-label", "Text");
  holder.append(paragraph(text), copyButton(() => text, "the text", "Copy the text"));
  return holder;
}

/** Returns a button that copies what `read` returns. */
export function copyButton(read, what, label) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(icon("copy"), label);
  button.addEventListener("click", () => copy(read(), what));
  return button;
}

/**
 * Returns the token ids of a typed text for an input, which its own constant fills up.
 * Throws an error of one line for a token that the vocabulary does not have, or for too many.
 */
export function idsOf(port, text) {
  const tokens = metaOf(port).vocabulary ?? [];
  const known = new Map(tokens.map((token, id) => [token, id]));
  const words = text.split(/\s+/).filter(Boolean);
  const parts = areCharacters(tokens) ? [...text] : words.flatMap((word) => (known.has(word) ? [word] : word.match(WORDS) ?? []));
  const strange = parts.find((part) => !known.has(part));
  if (strange !== undefined)
    throw new Error(`\`${port.name}\` must consist of tokens of the model's vocabulary. Received: ${JSON.stringify(strange)}`);
  const length = port.shape[0];
  if (parts.length > length) throw new Error(`\`${port.name}\` must have at most ${length} tokens. Received: ${parts.length} tokens`);
  const ids = parts.map((part) => known.get(part));
  const rest = typeof length === "number" ? length - ids.length : 0;
  const filling = (i) => (Array.isArray(port.value) ? port.value[i] : port.value);
  return [...ids, ...Array.from({ length: rest }, (_, i) => filling(ids.length + i))];
}
