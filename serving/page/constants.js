// Constant inputs that a user may set: numbers such as a temperature, texts such as a prefix.
import { typedAs } from "./kinds.js";
import { constantsOf } from "./model.js";
import { readConstants, writeConstants } from "./state.js";

const FEWEST_STEPS = 20; // of a slider

/**
 * Returns the values of a model's constant inputs that are typed, by name; others keep the model's own.
 * Throws an error of one line for a value that an input does not take.
 */
export function readValues(model, text) {
  const typed = readConstants(text);
  const found = {};
  for (const port of constantsOf(model)) if (takes(port) && typed[port.name]) found[port.name] = valueOf(port, typed[port.name]);
  return found;
}

const isNumber = (port) => !port.shape.length && port.dtype.startsWith("float");
const takes = (port) => isNumber(port) || isTyped(port);
const isTyped = (port) => Boolean(typedAs(port)) && port.shape.length === 1 && Boolean(port.meta.vocabulary);

function valueOf(port, text) {
  if (!isNumber(port)) return typedAs(port)(port, text);
  const value = Number(text);
  if (!Number.isFinite(value)) throw new Error(`\`${port.name}\` must be a number. Received: ${port.name}=${text}`);
  return value;
}

/** Part of the form: a slider for each number, a field for each text. */
export class Constants {
  /** changed(text) receives the typed values as a query string, wrong(error or null) a value that is not allowed. */
  constructor(root, changed, wrong) {
    Object.assign(this, { root, changed, wrong, fields: [] });
  }

  show(model, text) {
    const ports = constantsOf(model).filter(takes);
    const key = JSON.stringify([model.name, ports]);
    this.root.hidden = !ports.length;
    if (key !== this.key) {
      this.fields = ports.map((port) => new Field(port, () => this.#read(model)));
      this.root.replaceChildren(...this.fields.map(({ element }) => element));
      this.key = key;
    }
    const typed = readConstants(text);
    for (const field of this.fields) field.value = typed[field.port.name] ?? "";
  }

  #read(model) {
    const text = writeConstants(Object.fromEntries(this.fields.flatMap(({ port, value }) => (value ? [[port.name, value]] : []))));
    let problem = null;
    for (const { port, input, value } of this.fields) {
      try {
        if (value) valueOf(port, value);
        input.setAttribute("aria-invalid", "false");
      } catch (error) {
        input.setAttribute("aria-invalid", "true");
        problem ??= error;
      }
    }
    this.wrong(problem);
    if (!problem) this.changed(text, model);
  }
}

class Field {
  constructor(port, changed) {
    Object.assign(this, { port, shown: "" });
    this.element = document.createElement("div");
    this.element.className = "field";
    const ends = this.element.appendChild(document.createElement("div"));
    ends.className = "ends";
    const label = ends.appendChild(document.createElement("label"));
    label.htmlFor = `constant-${port.name}`;
    label.textContent = port.name[0].toUpperCase() + port.name.slice(1).replaceAll("_", " ");
    this.output = ends.appendChild(document.createElement("output"));
    this.output.htmlFor = label.htmlFor;
    this.own = ends.appendChild(document.createElement("button"));
    Object.assign(this.own, { type: "button", className: "plain", textContent: "model's own" });
    this.own.setAttribute("aria-label", `${label.textContent}: the model's own`);
    this.input = this.element.appendChild(document.createElement("input"));
    this.input.id = label.htmlFor;
    if (isNumber(port)) this.#slide();
    else Object.assign(this.input, { type: "text", dir: "auto", spellcheck: false });
    this.input.addEventListener("input", () => {
      this.shown = this.input.value;
      this.#describe();
      changed();
    });
    this.own.addEventListener("click", () => {
      this.input.focus(); // the button disappears
      this.value = "";
      changed();
    });
  }

  /** A slider through the range of the input; through a factor of its own value where it states none. */
  #slide() {
    const { value, value_range: range } = this.port;
    const reach = Math.abs(value) || 1;
    const usual = [value > 0 ? reach / FEWEST_STEPS : -reach, value < 0 ? 0 : 2 * reach];
    // Of a wide range, such as that of a temperature up to 100, only a part would be a pixel or two.
    const [min, max] = range && range[1] > 10 * reach ? [range[0], usual[1]] : (range ?? usual);
    Object.assign(this.input, { type: "range", min, max, step: reach / FEWEST_STEPS });
  }

  get value() {
    return this.shown;
  }

  set value(text) {
    this.shown = text;
    if (isNumber(this.port)) this.input.value = text || this.port.value;
    else if (this.input.value !== text) this.input.value = text;
    this.#describe();
  }

  #describe() {
    this.own.hidden = !this.shown;
    this.output.textContent = isNumber(this.port) ? Number(this.shown || this.port.value).toFixed(2) : "";
  }
}
