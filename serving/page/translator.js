// Translation of a picture: chosen, dropped or pasted; compared with its translation, and saved.
import { bicubic } from "./bicubic.js";
import { Compare } from "./compare.js";
import { PictureUser } from "./picture.js";
import { translateAddress, translateCurl, translatePython } from "./requests.js";
import { say } from "./say.js";
import { save } from "./take.js";

const ENDINGS = { png: "png", jpeg: "jpg", webp: "webp" };
const MOST_BICUBIC = 2 ** 24; // pixels

export class Translator extends PictureUser {
  doing = "translating";

  /**
   * root: the element. on: {error(error or null), turn(name)}; turn asks for the model of the
   * opposite direction.
   */
  constructor(root, api, base, on) {
    const names = ["help", "examples", "example-list", "left", "turn", "facts", "format", "save"];
    super(root, "translate", names, api, base, on);
    this.compare = new Compare(root.querySelector("#compare"));
    const { left, turn, format, save: button } = this.parts;
    for (const radio of root.querySelectorAll("[name=zoom]"))
      radio.addEventListener("change", () => this.compare.setZoom(Number(radio.value)));
    left.addEventListener("change", () => this.#showLeft());
    turn.addEventListener("click", () => this.on.turn(this.model.translation.backward));
    format.addEventListener("change", () => this.showLines());
    button.addEventListener("click", () => this.#save());
  }

  /** Shows a model's translations of the chosen picture; `view` has the model's name and version. */
  show(model, view, models) {
    const changed = this.take(model, view);
    const backward = model.translation.backward;
    this.parts.turn.hidden = !models.some(({ name, translation }) => name === backward && translation);
    this.parts.turn.textContent = `Other direction: ${backward}`;
    if (changed === "model") {
      this.parts.left.querySelector("[value=input]").checked = true;
      this.#showExamples();
    }
    if (changed && this.file) this.send();
  }

  /** Returns the line of a kind, "curl" or "python", that makes the shown translation. */
  line(kind) {
    const found = { ...this.shown, format: this.parts.format.value };
    const make = kind === "curl" ? translateCurl : translatePython;
    return make(this.base, found, this.file?.name ?? "picture.png", this.#name(found.format), this.api.hasToken);
  }

  #name(format) {
    const stem = (this.file?.name ?? "picture").replace(/\.[^.]*$/, "").replace(/[^\w.-]+/g, "-") || "picture";
    return `${stem}-${this.model.name}.${ENDINGS[format]}`;
  }

  async answer(file, signal) {
    const { model } = this;
    say(`Translating ${file.name}`);
    const asked = this.api.translate(translateAddress(this.base, { ...this.view, format: "png" }), file, signal);
    const input = createImageBitmap(file).catch(() => null); // the server says what is wrong with it
    const { blob, notes } = await asked;
    const answer = await createImageBitmap(blob);
    const before = await input;
    if (signal.aborted) return;
    this.blob = blob;
    this.input = before && canvasOf(before);
    this.enlarged = null;
    this.parts.result.hidden = false;
    this.#offerLeft(answer);
    if (before) this.compare.show(this.#left(), answer, this.#words());
    else this.compare.showAlone(answer, "Translation");
    this.#describe(answer, notes);
    this.showLines();
    say(`${file.name} is translated by ${model.name}.`);
  }

  get #isBicubic() {
    return this.parts.left.querySelector("[value=bicubic]").checked && this.model.translation.scale > 1;
  }

  #words() {
    return [this.#isBicubic ? "bicubic" : "input", "translation"];
  }

  /** Offers the pictures that can be shown on the left of an answer. */
  #offerLeft({ width, height }) {
    const { left } = this.parts;
    left.hidden = this.model.translation.scale < 2 || !this.input;
    const radio = left.querySelector("[value=bicubic]");
    radio.disabled = width * height > MOST_BICUBIC;
    radio.parentElement.title = radio.disabled ? "This page enlarges to at most 16 megapixels." : "";
    if (radio.disabled) left.querySelector("[value=input]").checked = true;
  }

  /** Returns the picture of the left: the input as it is, or enlarged. */
  #left() {
    if (!this.#isBicubic) return this.input;
    this.enlarged ??= bicubic(this.input, this.model.translation.scale);
    return this.enlarged;
  }

  #showLeft() {
    if (!this.input) return;
    this.compare.showLeft(this.#left(), this.#words());
  }

  #describe({ width, height }, notes) {
    const { scale } = this.model.translation;
    const [from, high] = this.input ? [this.input.width, this.input.height] : [width / scale, height / scale];
    this.parts.facts.textContent = `${from} × ${high} to ${width} × ${height} pixels`;
    const unshown = this.input ? "" : "This browser cannot show the input, which is of another format.";
    this.showNotes([notes, unshown].filter(Boolean).join(" "));
  }

  async #save() {
    const format = this.parts.format.value;
    const name = this.#name(format);
    if (format === "png") return save(this.blob, name);
    try {
      const address = translateAddress(this.base, { ...this.view, format });
      save((await this.api.translate(address, this.file)).blob, name);
    } catch (error) {
      this.on.error(error);
    }
  }

  async #showExamples() {
    const { model, key } = this;
    const { examples: holder, "example-list": list } = this.parts;
    list.replaceChildren();
    holder.hidden = !model.examples;
    for (let number = 0; number < model.examples; number++) {
      try {
        const blob = await this.api.example(model.name, number);
        if (key !== this.key) return;
        list.append(this.#example(blob, number));
      } catch {
        return; // the page is usable without them
      }
    }
  }

  #example(blob, number) {
    const item = document.createElement("li");
    const button = item.appendChild(document.createElement("button"));
    button.type = "button";
    button.className = "tile";
    button.setAttribute("aria-label", `Example ${number}`);
    const picture = button.appendChild(new Image());
    picture.alt = "";
    picture.className = "pixels";
    picture.src = URL.createObjectURL(blob);
    picture.addEventListener("load", () => URL.revokeObjectURL(picture.src), { once: true });
    const file = new File([blob], `${this.model.name}-example-${number}.png`, { type: "image/png" });
    button.addEventListener("click", () => this.choose(file));
    return item;
  }
}

function canvasOf(picture) {
  const canvas = document.createElement("canvas");
  canvas.width = picture.width;
  canvas.height = picture.height;
  canvas.getContext("2d", { willReadFrequently: true }).drawImage(picture, 0, 0);
  return canvas;
}
