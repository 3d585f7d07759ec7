// Classification of a picture: chosen, dropped or pasted; the probabilities of its classes as bars.
import { PictureUser } from "./picture.js";
import { classifyAddress, classifyCurl, classifyPython } from "./requests.js";
import { say } from "./say.js";

const MOST = 10; // classes that are shown

export class Classifier extends PictureUser {
  doing = "classifying";

  /** root: the element. on: {error(error or null)}. */
  constructor(root, api, base, on) {
    super(root, "classify", ["picture", "bars", "novelty"], api, base, on);
  }

  /** Shows a model's classes of the chosen picture; `view` has the model's name and version. */
  show(model, view) {
    if (this.take(model, view) && this.file) this.send();
  }

  /** Returns the line of a kind, "curl" or "python", that classifies the shown picture. */
  line(kind) {
    const make = kind === "curl" ? classifyCurl : classifyPython;
    return make(this.base, this.shown, this.file?.name ?? "picture.png", this.api.hasToken);
  }

  async answer(file, signal) {
    const { model } = this;
    const found = await this.api.classify(classifyAddress(this.base, this.view), file, signal);
    if (signal.aborted) return;
    this.parts.result.hidden = false;
    this.#show(file, found);
    say(`${file.name} is ${found.classes[0].name} by ${model.name}.`);
  }

  #show(file, { classes, novelty, notes }) {
    const { picture, bars, novelty: score } = this.parts;
    URL.revokeObjectURL(picture.src);
    picture.src = URL.createObjectURL(file);
    picture.alt = file.name;
    bars.replaceChildren(...classes.slice(0, MOST).map(bar));
    score.hidden = novelty === null;
    score.textContent = novelty === null ? "" : `Novelty ${novelty.toPrecision(3)}: the lower, the less like the training data`;
    this.showNotes(notes.join(" "));
    this.showLines();
  }
}

function bar({ name, probability }) {
  const row = document.createElement("li");
  const label = row.appendChild(document.createElement("span"));
  label.textContent = name;
  const value = row.appendChild(document.createElement("span"));
  value.textContent = `${(100 * probability).toFixed(1)} %`;
  const track = row.appendChild(document.createElement("div"));
  track.className = "track";
  track.setAttribute("aria-hidden", "true");
  track.appendChild(document.createElement("div")).style.width = `${100 * probability}%`;
  return row;
}
