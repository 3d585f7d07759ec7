// Classification of a picture: chosen, dropped or pasted; the probabilities of its classes as bars.
import { takePictures } from "./drop.js";
import { classifyAddress, classifyCurl, classifyPython } from "./requests.js";
import { say } from "./say.js";
import { showLines } from "./take.js";

const MOST = 10; // classes that are shown

export class Classifier {
  /** root: the element. on: {error(error or null)}. */
  constructor(root, api, base, on) {
    this.root = root;
    this.api = api;
    this.base = base;
    this.on = on;
    this.file = null;
    const names = ["drop", "file", "chosen", "result", "picture", "bars", "novelty", "notes", "lines"];
    this.parts = Object.fromEntries(names.map((name) => [name, root.querySelector(`#classify-${name}`)]));
    takePictures(root, this.parts.drop, this.parts.file, (file) => {
      this.file = file;
      this.#classify();
    });
  }

  /** Shows a model's classes of the chosen picture; `view` has the model's name and version. */
  show(model, view) {
    const key = JSON.stringify([view.model, view.version]);
    const fresh = key !== this.key;
    Object.assign(this, { key, model, view });
    if (fresh && this.file) this.#classify();
  }

  hide() {
    this.abort?.abort();
    this.key = null;
  }

  /** Returns the line of a kind, "curl" or "python", that classifies the shown picture. */
  line(kind) {
    const found = { ...this.view, version: this.view.version ?? this.model.version };
    const make = kind === "curl" ? classifyCurl : classifyPython;
    return make(this.base, found, this.file?.name ?? "picture.png", this.api.hasToken);
  }

  #showFile(state) {
    this.parts.chosen.textContent = `${this.file.name}, ${Math.ceil(this.file.size / 1024)} KiB${state}`;
  }

  async #classify() {
    this.abort?.abort();
    this.abort = new AbortController();
    const { signal } = this.abort;
    const { file, model } = this;
    this.root.setAttribute("aria-busy", "true");
    this.#showFile(", classifying …");
    this.on.error(null);
    try {
      const found = await this.api.classify(classifyAddress(this.base, this.view), file, signal);
      if (signal.aborted) return;
      this.parts.result.hidden = false;
      this.#show(file, found);
      say(`${file.name} is ${found.classes[0].name} by ${model.name}.`);
    } catch (error) {
      if (signal.aborted) return;
      this.parts.result.hidden = true;
      this.on.error(error);
    } finally {
      if (!signal.aborted) {
        this.root.setAttribute("aria-busy", "false");
        this.#showFile("");
      }
    }
  }

  #show(file, { classes, novelty, notes }) {
    const { picture, bars, novelty: score, notes: changes, lines } = this.parts;
    URL.revokeObjectURL(picture.src);
    picture.src = URL.createObjectURL(file);
    picture.alt = file.name;
    bars.replaceChildren(...classes.slice(0, MOST).map(bar));
    score.hidden = novelty === null;
    score.textContent = novelty === null ? "" : `Novelty ${novelty.toPrecision(3)}: the lower, the less like the training data`;
    changes.hidden = !notes.length;
    changes.textContent = notes.join(" ");
    showLines(lines, [
      ["curl", "the curl line", this.line("curl")],
      ["Python", "the Python line", this.line("python")],
    ]);
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
