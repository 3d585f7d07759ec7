// Samples that are points: a scatter plot whose points can be opened.
import { drawPoints } from "./kinds.js";

const BATCH = 64;
const MORE = 1024;
const SIZE = 640; // CSS pixels

export class Cloud {
  /** on: {open(index), error(error), ready()}. */
  constructor(root, on) {
    this.root = root;
    this.on = on;
    this.root.className = "cloud";
    this.canvas = document.createElement("canvas");
    this.canvas.tabIndex = 0;
    this.canvas.role = "application";
    this.canvas.setAttribute("aria-roledescription", "scatter");
    this.note = document.createElement("p");
    this.note.className = "facts";
    this.button = document.createElement("button");
    this.button.type = "button";
    this.button.textContent = `${MORE} more`;
    this.button.addEventListener("click", () => {
      this.wanted += MORE;
      this.#load();
    });
    root.replaceChildren(this.canvas, this.note, this.button);
    this.canvas.addEventListener("click", (event) => this.#pick(event, true));
    this.canvas.addEventListener("pointermove", (event) => this.#pick(event, false));
    this.canvas.addEventListener("keydown", (event) => this.#key(event));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw());
    new MutationObserver(() => this.#draw()).observe(document.documentElement, { attributeFilter: ["data-theme"] });
    new ResizeObserver(() => this.#draw()).observe(root);
  }

  /** view: {load(indices, signal), name(index), range, count}. */
  show(view) {
    this.abort?.abort();
    this.abort = new AbortController();
    this.view = view;
    this.values = [];
    this.current = 0;
    this.wanted = MORE;
    this.busy = false;
    this.#load();
  }

  hide() {
    this.abort?.abort();
    this.view = null;
  }

  sample(index) {
    return this.values[index] && { values: this.values[index] };
  }

  mark() {}

  focus(index) {
    this.current = index;
    this.canvas.focus();
    this.#draw();
  }

  async #load() {
    if (this.busy) return;
    const { signal } = this.abort;
    this.busy = true;
    try {
      while (this.values.length < Math.min(this.wanted, this.view.count)) {
        const start = this.values.length;
        const batch = Math.min(BATCH, this.view.count - start);
        const samples = await this.view.load(Array.from({ length: batch }, (_, i) => start + i), signal);
        if (signal.aborted) return;
        this.values.push(...samples.map((sample) => sample.values));
        if (!start) this.on.ready();
        this.#draw();
      }
    } catch (error) {
      if (!signal.aborted) this.on.error(error);
    } finally {
      if (!signal.aborted) this.busy = false;
    }
  }

  #draw() {
    if (!this.view) return;
    const size = Math.min(SIZE, this.root.clientWidth - 2);
    if (size < 1) return;
    const density = devicePixelRatio || 1;
    this.canvas.width = this.canvas.height = Math.round(size * density);
    this.canvas.style.width = this.canvas.style.height = `${size}px`;
    const pen = this.canvas.getContext("2d");
    pen.scale(density, density);
    const colors = getComputedStyle(document.body);
    pen.fillStyle = colors.color;
    pen.globalAlpha = 0.45;
    const range = this.view.range ?? this.#limits();
    this.places = drawPoints(pen, size, this.values, range, 2);
    pen.globalAlpha = 1;
    pen.fillStyle = colors.getPropertyValue("--mark") || "#d4552b";
    if (this.values[this.current]) drawPoints(pen, size, [this.values[this.current]], range, 5);
    const name = this.view.name(this.current);
    this.note.textContent = `${this.values.length} points from ${range.map((x) => x.toPrecision(3)).join(" to ")}; marked: ${name}`;
    this.canvas.setAttribute("aria-label", `${this.values.length} points; at ${name}. Arrow keys move, Enter opens.`);
  }

  #limits() {
    let low = Infinity;
    let high = -Infinity;
    for (const point of this.values)
      for (const x of point.slice(0, 2)) [low, high] = [Math.min(low, x), Math.max(high, x)];
    const pad = 0.05 * (high - low) || 1;
    return Number.isFinite(low) ? [low - pad, high + pad] : [-1, 1];
  }

  #pick(event, open) {
    const at = [event.offsetX, event.offsetY];
    let best = 0;
    let least = Infinity;
    (this.places ?? []).forEach(([x, y], index) => {
      const distance = (x - at[0]) ** 2 + (y - at[1]) ** 2;
      if (distance < least) [best, least] = [index, distance];
    });
    if (least === Infinity) return;
    if (best !== this.current) {
      this.current = best;
      this.#draw();
    }
    if (open) this.on.open(best);
  }

  #key(event) {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, PageDown: 64, PageUp: -64 }[event.key];
    if (step) {
      event.preventDefault();
      this.current = Math.max(0, Math.min(this.values.length - 1, this.current + step));
      this.#draw();
    } else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.on.open(this.current);
    }
  }
}
