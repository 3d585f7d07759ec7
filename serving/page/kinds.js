// Table of kinds: how samples are drawn on a tile (face) and in a dialog (body).
// Samples of an unknown kind are shown by their values: as text, or as a table.

import { isDynamic, metaOf } from "./model.js";
import { colored, draw, listen, player } from "./sound.js";

const SMALL = 96; // pixels; pictures up to this width are enlarged without smoothing
const RATE = 16_000; // Hz, for models without a sample rate
const ROWS = 256; // of a table; the download has all

const FRAME_RATE = 8; // Hz, for models without a frame rate
const ARRAYS = ".npy,.npz,.json"; // files that every kind has

const KINDS = {
  image: { format: "png", face: picture, body: picture, ratio: ([h, w]) => h / w, scale: 1, accept: "image/png,image/jpeg,image/webp" },
  points: { format: "json", face: dot, body: pointTable, ratio: () => 1, cloud: true },
  audio: { format: "json", face: soundFace, body: sound, heard: true, ratio: () => 0.5, accept: "audio/wav,audio/x-wav,.wav" },
  mel: { format: "json", face: mels, body: mels, ratio: ([frames, bands]) => bands / frames },
  series: { format: "json", face: wave, body: drawnTable, ratio: () => 0.5, accept: "text/csv,.csv" },
  video: { format: "json", face: still, body: film, ratio: ([, h, w]) => h / w, accept: "image/webp,image/gif,image/apng" },
  table: { format: "json", face: row, body: columnTable, ratio: () => 0.6, accept: "text/csv,.csv" },
  text: { format: "json", face: text, body: text, ratio: () => 0.6, accept: "text/plain,.txt,.jsonl" },
  label: { format: "json", face: label, body: probabilities, ratio: () => 0.4 },
  array: { format: "json", face: words, body: table, ratio: () => 0.6 },
};

const kindOf = (model) => KINDS[model.kind] ?? KINDS.array;

/** Returns the format to request: "png" or "json". */
export const formatOf = (model) => kindOf(model).format;

/** Returns the files that an input accepts, as the attribute `accept`. */
export const acceptOf = (port) => [kindOf(port).accept, ARRAYS].filter(Boolean).join(",");

/** Checks that all samples are shown in one plot. */
export const isCloud = (model) => kindOf(model).cloud === true;

/** Returns the width of a tile relative to that of a picture. */
export const scaleOf = (model) => kindOf(model).scale ?? 1.6;

/** Returns the height of a tile divided by its width; `ratio` is that of samples of any size. */
export function ratioOf(model, ratio = 1) {
  const own = kindOf(model).ratio(model.shape);
  return Math.min(3, Math.max(1 / 3, Number.isFinite(own) ? own : ratio));
}

/** Returns a tile width near the wanted one that is a multiple of a small picture's, else null. */
export function evenWidth(model, wanted) {
  const width = model.shape[1];
  if (formatOf(model) !== "png" || isDynamic(model) || width > SMALL) return null;
  return Math.max(1, Math.round(wanted / width)) * width;
}

/** Draws a sample as the content of a tile, whose button carries the accessible name. */
export function face(model, sample) {
  const element = kindOf(model).face(model, sample);
  if (element instanceof HTMLImageElement) element.alt = "";
  else element.setAttribute("aria-hidden", "true");
  return element;
}

/** Draws a sample at full size. */
export function body(model, sample, description) {
  const element = kindOf(model).body(model, sample, description);
  if (element instanceof HTMLImageElement) element.alt = description;
  else if (element instanceof HTMLCanvasElement) {
    element.role = "img";
    element.setAttribute("aria-label", description);
  }
  return element;
}

export function pngBytes(sample) {
  return Uint8Array.from(atob(sample.png), (letter) => letter.charCodeAt(0));
}

function picture(model, sample) {
  if (!sample.png) {
    const element = document.createElement("canvas");
    drawFrame(element, model, sample.values);
    return element;
  }
  const image = isDynamic(model) ? new Image() : new Image(model.shape[1], model.shape[0]);
  image.src = `data:image/png;base64,${sample.png}`;
  image.decoding = "async";
  image.draggable = false;
  image.classList.toggle("free", isDynamic(model));
  if (isDynamic(model)) image.addEventListener("load", () => image.classList.toggle("pixels", image.naturalWidth <= SMALL));
  else image.classList.toggle("pixels", model.shape[1] <= SMALL);
  return image;
}

function canvas(width, height) {
  const element = document.createElement("canvas");
  const density = Math.min(2, devicePixelRatio || 1);
  element.width = width * density;
  element.height = height * density;
  const pen = element.getContext("2d");
  pen.scale(density, density);
  const colors = getComputedStyle(document.body);
  pen.strokeStyle = pen.fillStyle = colors.color;
  return [element, pen];
}

function limits(values, range) {
  if (range) return range;
  const finite = values.flat(Infinity).filter(Number.isFinite);
  let low = Infinity;
  let high = -Infinity;
  for (const x of finite) [low, high] = [Math.min(low, x), Math.max(high, x)];
  return low < high ? [low, high] : [(finite[0] ?? 0) - 1, (finite[0] ?? 0) + 1];
}

/** Plots the first features of a series or a sound over time. */
function wave(model, sample, width = 160, height = 80) {
  const [element, pen] = canvas(width, height);
  const rows = sample.values;
  const [low, high] = limits(rows, model.value_range);
  const features = Math.min(4, rows[0]?.length ?? 1);
  pen.lineWidth = 1;
  for (let feature = 0; feature < features; feature++) {
    pen.globalAlpha = 1 - feature / (features + 1);
    pen.beginPath();
    rows.forEach((row, t) => {
      const y = 4 + ((high - row[feature]) / (high - low)) * (height - 8);
      pen.lineTo((t / Math.max(1, rows.length - 1)) * width, y);
    });
    pen.stroke();
  }
  return element;
}

function dot(model, sample) {
  const [element, pen] = canvas(80, 80);
  drawPoints(pen, 80, [sample.values], model.value_range ?? [-3, 3], 4);
  return element;
}

/** Draws points on a square canvas; returns their positions. */
export function drawPoints(pen, size, points, [low, high], radius) {
  const position = (x) => 6 + ((x - low) / (high - low)) * (size - 12);
  return points.map(([x, y = 0]) => {
    const at = [position(x), size - position(y)];
    pen.beginPath();
    pen.arc(...at, radius, 0, 7);
    pen.fill();
    return at;
  });
}

function pointTable(model, sample) {
  return table(model, { values: sample.values.map((x) => [x]) });
}

function drawnTable(model, sample, description) {
  const holder = document.createElement("div");
  const drawing = wave(model, sample, 320, 160);
  drawing.role = "img";
  drawing.setAttribute("aria-label", description);
  holder.append(drawing, table(model, sample, { columns: columnsOf(model) }));
  holder.className = "table";
  return holder;
}

const columnsOf = (model) => metaOf(model).columns ?? [];

/** Shows the row of a table, a column in each line. */
function columnTable(model, { values }) {
  return table(model, { values: values.map((x) => [x]) }, { rows: columnsOf(model) });
}

function row(model, { values }) {
  const names = columnsOf(model);
  const element = words(model, { values: [] });
  element.textContent = values.map((x, i) => `${names[i] ?? i}: ${short(x)}`).join("\n");
  return element;
}

/** Shows values as a table; `rows` and `columns` are names. */
function table(model, { values }, { rows: heads = [], columns = [] } = {}) {
  const holder = document.createElement("div");
  holder.className = "table";
  holder.tabIndex = 0; // scrolls by keyboard
  holder.role = "region";
  holder.setAttribute("aria-label", `Values of ${model.name}`);
  const element = holder.appendChild(document.createElement("table"));
  const rows = Array.isArray(values) ? values : [values];
  if (rows.length > ROWS) element.createCaption().textContent = `the first ${ROWS} of ${rows.length}`;
  if (columns.length) {
    const line = element.createTHead().insertRow();
    line.insertCell();
    for (const name of columns) headOf(line, name, "col");
  }
  const lines = element.createTBody();
  rows.slice(0, ROWS).forEach((row, number) => {
    const line = lines.insertRow();
    headOf(line, heads[number] ?? number, "row");
    for (const value of Array.isArray(row) ? row.flat(Infinity).slice(0, ROWS) : [row])
      line.insertCell().textContent = typeof value === "number" ? short(value) : String(value);
  });
  return holder;
}

function headOf(line, name, scope) {
  const head = line.appendChild(document.createElement("th"));
  head.scope = scope;
  head.textContent = name;
}

const short = (value) => (Number.isInteger(value) ? String(value) : value.toFixed(4));

function words(model, { values }) {
  const element = document.createElement("span");
  element.className = "words";
  const flat = Array.isArray(values) ? values.flat(Infinity) : [values];
  const shown = flat.slice(0, 400).map((x) => (typeof x === "number" ? x.toFixed(2) : x));
  element.textContent = shown.join(flat.every((x) => typeof x === "string") ? "" : "  ");
  return element;
}

const argmax = (weights) => weights.reduce((best, x, i) => (x > weights[best] ? i : best), 0);

/** Shows a text: the most probable token at each step, up to the end token, which is empty. */
function text(model, { values }) {
  const tokens = metaOf(model).vocabulary ?? [];
  const ids = values.map((x) => (Array.isArray(x) ? argmax(x) : x));
  const element = words(model, { values: [] });
  const joint = tokens.length && tokens.every((token) => [...token].length <= 1) ? "" : " ";
  const end = ids.findIndex((id) => tokens[id] === "");
  const shown = end < 0 ? ids : ids.slice(0, end);
  element.textContent = shown.map((id) => tokens[id] ?? id).join(joint);
  return element;
}

const nameOf = (model, id) => metaOf(model).class_names?.[id] ?? String(id);

function label(model, { values }) {
  const element = words(model, { values: [] });
  element.textContent = nameOf(model, Array.isArray(values) ? argmax(values) : values);
  return element;
}

/** Shows a class, and the probabilities of all classes, the largest first. */
function probabilities(model, sample) {
  if (!Array.isArray(sample.values)) return label(model, sample);
  const order = sample.values.map((x, id) => [x, id]).sort(([a], [b]) => b - a);
  const values = order.map(([x]) => [x]);
  return table(model, { values }, { rows: order.map(([, id]) => nameOf(model, id)) });
}

/** Returns the first channel of a sound as samples in [-1, 1], and its rate. */
function soundOf(model, { values }) {
  const [low, high] = model.value_range ?? [-1, 1];
  const samples = Float32Array.from(values, ([x]) => (2 * (x - low)) / (high - low) - 1);
  return { samples, rate: metaOf(model).sample_rate ?? RATE };
}

/** Draws a log-mel spectrogram, from the least value of its definition to a full-scale tone. */
function mels(model, { values }) {
  const element = document.createElement("canvas");
  const picture = colored(values, Math.log(metaOf(model).mel?.floor ?? 1e-5), 0);
  [element.width, element.height] = [4 * picture.width, 4 * picture.height];
  const pen = element.getContext("2d");
  pen.imageSmoothingEnabled = false;
  pen.drawImage(picture, 0, 0, element.width, element.height);
  return element;
}

function soundFace(model, sample) {
  const { samples, rate } = soundOf(model, sample);
  const element = document.createElement("canvas");
  draw(element, samples, rate, 160, 36, 44);
  return element;
}

function fileOf(model, sample) {
  const rate = metaOf(model).sample_rate ?? RATE;
  return new Blob([wav(sample.values, model.value_range, rate)], { type: "audio/wav" });
}

function sound(model, sample, description) {
  return player(soundOf(model, sample), fileOf(model, sample), description);
}

/** Plays or stops a sample of a kind that is heard; returns whether it plays, null for other kinds. */
export function hear(model, sample, key) {
  return kindOf(model).heard && sample ? listen(key, fileOf(model, sample)) : null;
}

/** Encodes values [time][channel] as a WAV file of 16-bit samples. */
export function wav(values, range, rate = RATE) {
  const channels = values[0]?.length ?? 1;
  const [low, high] = range ?? [-1, 1];
  const bytes = 2 * channels * values.length;
  const view = new DataView(new ArrayBuffer(44 + bytes));
  const text = (at, letters) => [...letters].forEach((x, i) => view.setUint8(at + i, x.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + bytes, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, channels, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * channels * rate, true);
  view.setUint16(32, 2 * channels, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, bytes, true);
  values.flat().forEach((value, i) => {
    const unit = Math.min(1, Math.max(-1, (2 * (value - low)) / (high - low) - 1));
    view.setInt16(44 + 2 * i, Math.round(unit * 32767), true);
  });
  return view.buffer;
}

/** Draws values [height][width][channel]. */
function drawFrame(element, model, frame) {
  const [height, width, channels] = [frame.length, frame[0].length, frame[0][0].length];
  const [low, high] = model.value_range ?? [-1, 1];
  element.width = width;
  element.height = height;
  element.classList.toggle("pixels", width <= SMALL);
  const pen = element.getContext("2d");
  const image = pen.createImageData(width, height);
  frame.flat().forEach((pixel, i) => {
    for (let c = 0; c < 3; c++)
      image.data[4 * i + c] = Math.round((255 * (pixel[c % channels] - low)) / (high - low));
    image.data[4 * i + 3] = 255;
  });
  pen.putImageData(image, 0, 0);
}

function still(model, sample) {
  const element = document.createElement("canvas");
  drawFrame(element, model, sample.values[0]);
  return element;
}

/** Plays a video by its frame rate, in a loop, from the press of a button. */
function film(model, sample, description) {
  const holder = document.createElement("div");
  holder.className = "sound";
  const screen = holder.appendChild(document.createElement("canvas"));
  screen.role = "img";
  screen.setAttribute("aria-label", description);
  const controls = holder.appendChild(document.createElement("div"));
  controls.className = "player";
  const button = controls.appendChild(document.createElement("button"));
  button.type = "button";
  const slider = controls.appendChild(document.createElement("input"));
  slider.type = "range";
  slider.max = sample.values.length - 1;
  slider.value = 0;
  slider.setAttribute("aria-label", "Frame");
  const rate = metaOf(model).frame_rate ?? FRAME_RATE;
  const note = holder.appendChild(document.createElement("p"));
  note.className = "help";
  note.textContent = `${sample.values.length} frames at ${rate} Hz`;
  let timer = null;
  const show = (number) => {
    slider.value = number;
    drawFrame(screen, model, sample.values[number]);
  };
  const stop = () => {
    clearInterval(timer);
    timer = null;
    button.textContent = "Play";
  };
  button.addEventListener("click", () => {
    if (timer !== null) return stop();
    button.textContent = "Pause";
    timer = setInterval(() => {
      if (!screen.isConnected) return stop();
      show((Number(slider.value) + 1) % sample.values.length);
    }, 1000 / rate);
  });
  slider.addEventListener("input", () => {
    stop();
    show(Number(slider.value));
  });
  stop();
  show(0);
  return holder;
}
