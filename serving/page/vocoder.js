// A sound through a vocoder: chosen or dropped; heard before and after, and saved.
import { PictureUser } from "./picture.js";
import { uploadAddress, vocodeCurl, vocodePython } from "./requests.js";
import { say } from "./say.js";
import { closePlayers, decode, player } from "./sound.js";
import { save } from "./take.js";

export class Vocoder extends PictureUser {
  doing = "computing";

  /** root: the element. on: {error(error or null)}. */
  constructor(root, api, base, on) {
    super(root, "vocode", ["before", "after", "save"], api, base, on);
    this.parts.save.addEventListener("click", () => save(this.blob, this.#name));
  }

  /** Shows what a model makes of the chosen sound; `view` has the model's name and version. */
  show(model, view) {
    if (this.take(model, view) && this.file) this.send();
  }

  hide() {
    super.hide();
    for (const sound of this.root.querySelectorAll(".sound")) sound.audio.pause();
  }

  /** Plays or stops the answer. */
  toggle() {
    this.parts.after.querySelector(".sound")?.toggle();
  }

  /** Returns the line of a kind, "curl" or "python", that makes the shown sound. */
  line(kind) {
    const make = kind === "curl" ? vocodeCurl : vocodePython;
    return make(this.base, this.shown, this.file?.name ?? "sound.wav", this.#name, this.api.hasToken);
  }

  get #name() {
    const stem = (this.file?.name ?? "sound").replace(/\.[^.]*$/, "").replace(/[^\w.-]+/g, "-") || "sound";
    return `${stem}-${this.model.name}.wav`;
  }

  async answer(file, signal) {
    const { model } = this;
    say(`Computing ${file.name}`);
    const address = uploadAddress(this.base, "vocode", { ...this.view, resample: true });
    const asked = this.api.upload(address, file, signal);
    const before = decode(file).catch(() => null); // a spectrogram, or a file that the server explains
    const { blob, notes } = await asked;
    const [heard, made] = [await before, await decode(blob)];
    if (signal.aborted) return;
    this.blob = blob;
    this.parts.result.hidden = false;
    this.parts.before.parentElement.hidden = !heard;
    closePlayers(this.root);
    this.parts.before.replaceChildren(...(heard ? [player(heard, file, "the sound before")] : []));
    this.parts.after.replaceChildren(player(made, blob, "the sound after"));
    this.showNotes(notes);
    this.showLines();
    say(`${file.name} is computed by ${model.name}.`);
  }
}
