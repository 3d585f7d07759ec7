// A picture or sound that a user chooses, drops or pastes: it is sent to a model, and the answer is shown.
import { takePictures } from "./drop.js";
import { showLines } from "./take.js";

/** Base class of `Translator`, `Classifier` and `Vocoder`, which define `answer(file, signal)` and `line(kind)`. */
export class PictureUser {
  /**
   * root: the element. prefix: of the ids of its parts. names: of further parts than those of every
   * user. on: {error(error or null)}.
   */
  constructor(root, prefix, names, api, base, on) {
    Object.assign(this, { root, api, base, on, file: null });
    const all = ["drop", "file", "chosen", "result", "notes", "lines", ...names];
    this.parts = Object.fromEntries(all.map((name) => [name, root.querySelector(`#${prefix}-${name}`)]));
    this.choose = takePictures(root, this.parts.drop, this.parts.file, (file) => {
      this.file = file;
      this.send();
    });
  }

  /** Takes a model and the view with its name, version and seed; returns "model", "seed" or null: what is another. */
  take(model, view) {
    const key = JSON.stringify([view.model, view.version]);
    const changed = key !== this.key ? "model" : view.seed !== this.view.seed ? "seed" : null;
    Object.assign(this, { key, model, view });
    return changed;
  }

  hide() {
    this.abort?.abort();
    this.key = null;
  }

  /** The view with the version that is shown, for a line to copy. */
  get shown() {
    return { ...this.view, version: this.view.version ?? this.model.version };
  }

  showNotes(text) {
    this.parts.notes.hidden = !text;
    this.parts.notes.textContent = text;
  }

  showLines() {
    if (!this.file) return;
    showLines(this.parts.lines, [
      ["curl", "the curl line", this.line("curl")],
      ["Python", "the Python line", this.line("python")],
    ]);
  }

  /** Sends the chosen file in place of one whose answer is awaited, and shows the answer. */
  async send() {
    this.abort?.abort();
    this.abort = new AbortController();
    const { signal } = this.abort;
    const { file } = this;
    this.root.setAttribute("aria-busy", "true");
    this.#showFile(`, ${this.doing} …`);
    this.on.error(null);
    try {
      await this.answer(file, signal);
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

  #showFile(state) {
    this.parts.chosen.textContent = `${this.file.name}, ${Math.ceil(this.file.size / 1024)} KiB${state}`;
  }
}
