// Dialog of a walk: interpolates between two samples, with a slider and a play button.
import { body, face, formatOf, load } from "./kinds.js";
import { describe, fields, readSeed, seedRule, toCurl, toPython } from "./requests.js";
import { complain } from "./say.js";
import { closePlayers } from "./sound.js";
import { icon, save, showLines } from "./take.js";

const STEP = 90; // ms a frame
const CALM_STEP = 500; // with prefers-reduced-motion
const WAIT = 250; // ms from the last key to the request
const LOOP = { seconds: 8, frames: 240 };
const LOOP_FRAMES_OF_ANY_SIZE = 60; // where the server does not know its limit
const LONGEST_LOOP = 120_000; // ms

/** Returns the format of a file of all samples of a walk, of a kind without pictures: lines, or an array. */
const fileOfAll = (model) => model.line_formats[0] ?? "npy";

export class Walk {
  constructor(dialog, api, base) {
    this.dialog = dialog;
    this.api = api;
    this.base = base;
    const find = (name) => dialog.querySelector(`#${name}`);
    this.parts = {
      title: find("walk-title"),
      facts: find("walk-facts"),
      figure: find("walk-figure"),
      from: find("walk-from"),
      to: find("walk-to"),
      count: find("walk-count"),
      play: find("walk-play"),
      frame: find("walk-frame"),
      frameValue: find("walk-frame-value"),
      lines: find("walk-lines"),
      film: find("film"),
      save: find("walk-save"),
      saveText: find("walk-save-text"),
      loop: find("loop"),
      loopSave: find("loop-save"),
      loopFormat: find("loop-format"),
      problem: dialog.querySelector("[data-problem]"),
    };
    for (const input of [this.parts.from, this.parts.to])
      input.addEventListener("input", () => {
        clearTimeout(this.timer);
        this.timer = setTimeout(() => this.#read(), WAIT);
      });
    this.parts.count.addEventListener("change", () => this.#read());
    this.parts.frame.addEventListener("input", () => {
      this.#stop();
      this.#show(Number(this.parts.frame.value));
    });
    this.parts.play.addEventListener("click", () => (this.playing ? this.#stop() : this.#play()));
    this.parts.save.addEventListener("click", () => this.#save());
    this.parts.loopSave.addEventListener("click", () => this.#saveLoop());
    dialog.addEventListener("close", () => {
      this.#stop();
      clearTimeout(this.timer);
      this.abort?.abort();
      if (!dialog.open) closePlayers(dialog);
    });
  }

  open(model, view, from, to) {
    Object.assign(this, { model, view });
    this.parts.from.value = String(from);
    this.parts.to.value = String(to);
    this.parts.saveText.textContent = formatOf(model) === "png" ? "Download the frames" : `Download .${fileOfAll(model)}`;
    const { formats } = model.animations;
    this.parts.loop.hidden = !formats.length;
    this.parts.loopFormat.replaceChildren(...formats.map((format) => new Option(format)));
    if (!this.dialog.open) this.dialog.showModal();
    this.parts.title.focus();
    this.#read();
  }

  #read() {
    const ends = [this.parts.from, this.parts.to].map((input) => {
      const seed = readSeed(input.value);
      input.setAttribute("aria-invalid", String(seed === null));
      if (seed === null) complain(this.parts.problem, new Error(seedRule(input.value)));
      return seed;
    });
    if (!ends.includes(null)) this.#load({ interpolate: ends, count: Number(this.parts.count.value) });
  }

  async #load(what) {
    this.#stop();
    this.abort?.abort();
    this.abort = new AbortController();
    const { signal } = this.abort;
    this.what = what;
    this.parts.facts.textContent = `truncation ${this.view.truncation}`;
    try {
      const frames = await load(this.api, this.model, this.view, what, signal);
      if (signal.aborted) return;
      complain(this.parts.problem, null);
      this.frames = frames;
      this.parts.frame.max = frames.length - 1;
      this.#film();
      this.#lines();
      this.#show(Math.min(Number(this.parts.frame.value), frames.length - 1));
    } catch (error) {
      if (!signal.aborted) complain(this.parts.problem, error);
    }
  }

  #film() {
    this.parts.film.replaceChildren(...this.frames.map((frame) => face(this.model, frame)));
  }

  #show(number) {
    if (!this.frames) return;
    const description = describe(this.model, this.view, { ...this.what, count: this.frames.length, frame: number });
    const old = this.parts.figure.firstElementChild;
    const frame = this.frames[number];
    if (old instanceof HTMLImageElement && frame.png) {
      old.src = `data:image/png;base64,${frame.png}`; // a new element would flicker
      old.alt = description;
    } else {
      closePlayers(this.parts.figure);
      this.parts.figure.replaceChildren(body(this.model, frame, description));
    }
    this.parts.frame.value = number;
    this.parts.frame.setAttribute("aria-valuetext", `frame ${number + 1} of ${this.frames.length}`);
    this.parts.frameValue.textContent = `${number + 1} / ${this.frames.length}`;
    [...this.parts.film.children].forEach((item, i) => item.classList.toggle("on", i === number));
  }

  /** Plays forward and backward until stopped. */
  #play() {
    if (!this.frames) return;
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    let forward = true;
    this.playing = setInterval(() => {
      const at = Number(this.parts.frame.value);
      if (at >= this.frames.length - 1) forward = false;
      if (at <= 0) forward = true;
      this.#show(at + (forward ? 1 : -1));
    }, calm ? CALM_STEP : STEP);
    this.#button("pause", "Pause");
  }

  #stop() {
    clearInterval(this.playing);
    this.playing = null;
    this.#button("play", "Play");
  }

  #button(name, label) {
    this.parts.play.setAttribute("aria-label", label);
    this.parts.play.replaceChildren(icon(name));
  }

  #fields(more) {
    const view = { ...this.view, version: this.view.version ?? this.model.version };
    return fields(view, this.what, more);
  }

  #file() {
    const picture = formatOf(this.model) === "png";
    const more = picture ? { format: "grid", columns: Math.min(12, this.what.count) } : { format: fileOfAll(this.model) };
    const name = `${this.model.name}-walk-${this.what.interpolate.join("-")}.${picture ? "png" : fileOfAll(this.model)}`;
    return [this.#fields(more), name];
  }

  #lines() {
    const [found, name] = this.#file();
    const token = this.api.hasToken;
    showLines(this.parts.lines, [
      ["curl", "the curl line", toCurl(this.base, found, name, token, this.view.files)],
      ["Python", "the Python line", toPython(this.base, found, token, this.view.files, this.model.line_formats.includes(found.format))],
    ]);
  }

  async #save() {
    if (!this.what) return;
    const [found, name] = this.#file();
    try {
      save(await this.api.file(found, this.abort.signal, this.view.files), name);
    } catch (error) {
      complain(this.parts.problem, error);
    }
  }

  /** Saves an animation from the first seed to the second and back. */
  async #saveLoop() {
    if (!this.what) return;
    const { interpolate } = this.what;
    const format = this.parts.loopFormat.value;
    const most = this.model.animations.max_frames ?? LOOP_FRAMES_OF_ANY_SIZE;
    const count = Math.max(2, 2 * Math.floor(Math.min(LOOP.frames, most) / 2)); // both seeds are frames
    const more = { count, loop: true, frame_rate: Math.max(1, count / LOOP.seconds), format };
    const limit = AbortSignal.timeout(LONGEST_LOOP);
    this.parts.loopSave.disabled = true;
    try {
      const blob = await this.api.file(this.#fields(more), limit, this.view.files);
      save(blob, `${this.model.name}-loop-${interpolate.join("-")}.${format}`);
      complain(this.parts.problem, null);
    } catch (error) {
      const line = "The server did not answer within two minutes: try again later.";
      complain(this.parts.problem, limit.aborted ? new Error(line) : error);
    } finally {
      this.parts.loopSave.disabled = false;
    }
  }
}
