// Videos: their frames as pixels, loops that play in step, and the controls of a loop.
import { metaOf } from "./model.js";
import { icon } from "./take.js";

const RATE = 8; // Hz, for models without a frame rate
const SMALL = 96; // pixels; videos up to this width are enlarged without smoothing
const calm = matchMedia("(prefers-reduced-motion: reduce)");

/**
 * Returns a sample as {frames: {count, height, width, channels, pixels}}, of an array or of nested lists. Pixels are
 * bytes, those that the server writes into files: a quarter of the memory of the values.
 */
export function takeVideo(model, { array, values }) {
  const { shape, values: flat } = array ?? { shape: shapeOf(values), values: values.flat(Infinity) };
  const [count, height, width, channels] = shape;
  return { frames: { count, height, width, channels, pixels: toBytes(flat, model.value_range ?? [-1, 1]) } };
}

const shapeOf = (values) => (Array.isArray(values) ? [values.length, ...shapeOf(values[0])] : []);

/** Maps a range to 0..255 by the steps of the server, in its precision, so that the bytes are equal. */
function toBytes(values, [low, high]) {
  const [least, span] = [Math.fround(low), Math.fround(high - low)];
  const bytes = new Uint8Array(values.length);
  const strange = values.reduce((count, x) => count + !Number.isFinite(x), 0);
  if (strange) throw new Error(`A video must have finite values. Received: ${strange} NaN or infinite values of ${values.length}`);
  for (let i = 0; i < bytes.length; i++) {
    const level = Math.fround(Math.fround(Math.fround(Math.fround(values[i]) - least) / span) * 255);
    const floor = Math.floor(level);
    const rest = level - floor;
    const nearest = rest === 0.5 ? floor + (floor & 1) : rest > 0.5 ? floor + 1 : floor; // a half goes to the even level
    bytes[i] = Math.min(255, Math.max(0, nearest));
  }
  return bytes;
}

/** Draws a frame on a canvas of its size. */
function drawFrame(canvas, { height, width, channels, pixels }, number) {
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  const pen = canvas.getContext("2d");
  const image = pen.createImageData(width, height);
  const start = number * height * width * channels;
  for (let i = 0; i < height * width; i++) {
    const at = start + i * channels;
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = pixels[channels < 3 ? at : at + c];
    image.data[4 * i + 3] = channels === 4 ? pixels[at + 3] : 255;
  }
  pen.putImageData(image, 0, 0);
}

/** The clock of all loops of one length and rate: they show the same frame number at any time. */
class Clock {
  constructor(count, rate) {
    Object.assign(this, { count, rate, frame: 0, start: performance.now(), playing: !calm.matches });
    this.shown = new Set(); // canvases in the viewport
    this.bars = new Map(); // element -> its update
    calm.addEventListener("change", () => calm.matches && this.pause());
  }

  toggle() {
    if (this.playing) return this.pause();
    this.playing = true;
    this.start = performance.now() - (1000 * this.frame) / this.rate;
    this.#update();
    this.wake();
  }

  pause() {
    this.playing = false;
    this.#update();
  }

  /** Pauses at a frame; numbers beyond the ends continue at the other end. */
  seek(number) {
    this.playing = false;
    this.#show(((number % this.count) + this.count) % this.count);
  }

  /** Continues to draw, after nothing was in view. */
  wake() {
    this.waiting ??= requestAnimationFrame(() => this.#run());
  }

  #run() {
    this.waiting = null;
    if (!this.playing || !this.shown.size) return;
    const at = Math.floor(((performance.now() - this.start) * this.rate) / 1000) % this.count;
    if (at !== this.frame) this.#show(at);
    this.wake();
  }

  #show(number) {
    this.frame = number;
    for (const canvas of this.shown) draw(canvas);
    this.#update();
  }

  #update() {
    for (const [bar, update] of this.bars) {
      if (bar.isConnected) update();
      else this.bars.delete(bar);
    }
  }
}

const clocks = new Map();
const loops = new WeakMap(); // canvas -> {frames, clock}
const observer = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const { clock } = loops.get(target);
    clock.shown[isIntersecting ? "add" : "delete"](target); // one that leaves the document does not intersect
    if (!isIntersecting) continue;
    draw(target);
    clock.wake();
  }
});

function draw(canvas) {
  const { frames, clock } = loops.get(canvas);
  drawFrame(canvas, frames, clock.frame);
}

/** Returns the clock of a sample. */
export function clockOf(model, { frames }) {
  const rate = metaOf(model).frame_rate ?? RATE;
  const key = `${frames.count} ${rate}`;
  if (!clocks.has(key)) clocks.set(key, new Clock(frames.count, rate));
  return clocks.get(key);
}

/** Returns a canvas that plays a sample while it is in view. */
export function loop(model, sample) {
  const canvas = document.createElement("canvas");
  canvas.classList.toggle("pixels", sample.frames.width <= SMALL);
  loops.set(canvas, { frames: sample.frames, clock: clockOf(model, sample) });
  draw(canvas);
  observer.observe(canvas);
  return canvas;
}

/** Returns a sample at full size, with its controls. */
export function film(model, given, description) {
  const sample = given.frames ? given : takeVideo(model, given);
  const holder = document.createElement("div");
  holder.className = "clip";
  const screen = holder.appendChild(loop(model, sample));
  screen.role = "img";
  screen.setAttribute("aria-label", description);
  holder.append(transport(clockOf(model, sample)));
  return holder;
}

/** Returns the controls of a clock: a frame back, play or pause, a frame on, the frame, its number and the rate. */
export function transport(clock) {
  const bar = document.createElement("div");
  bar.className = "player transport";
  bar.role = "group";
  bar.setAttribute("aria-label", "Playback");
  const button = (name, picture, act) => {
    const found = bar.appendChild(document.createElement("button"));
    found.type = "button";
    found.className = "square";
    found.setAttribute("aria-label", name);
    found.append(icon(picture));
    found.addEventListener("click", act);
    return found;
  };
  button("Previous frame", "left", () => clock.seek(clock.frame - 1));
  const play = button("Play", "play", () => clock.toggle());
  play.dataset.play = "";
  button("Next frame", "right", () => clock.seek(clock.frame + 1));
  const slider = bar.appendChild(document.createElement("input"));
  Object.assign(slider, { type: "range", min: 0, max: clock.count - 1, step: 1, value: 0 });
  slider.setAttribute("aria-label", "Frame");
  slider.addEventListener("input", () => clock.seek(Number(slider.value)));
  const facts = bar.appendChild(document.createElement("span")); // an output would be read aloud at every frame
  facts.className = "facts";
  const update = () => {
    const name = clock.playing ? "Pause" : "Play";
    if (play.getAttribute("aria-label") !== name) {
      play.setAttribute("aria-label", name);
      play.replaceChildren(icon(name.toLowerCase()));
    }
    slider.value = clock.frame;
    slider.setAttribute("aria-valuetext", `frame ${clock.frame + 1} of ${clock.count}`);
    facts.textContent = `${clock.frame + 1} / ${clock.count} at ${clock.rate} Hz`;
  };
  update();
  clock.bars.set(bar, update);
  return bar;
}
