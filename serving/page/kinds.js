// Table of kinds: how samples are drawn on a tile (face) and in a dialog (body).
// Samples of an unknown kind are shown by their values: as text, or as a table.

const SMALL = 96; // pixels; pictures up to this width are enlarged without smoothing
const RATE = 16_000; // Hz, for models without a sample rate
const ROWS = 256; // of a table; the download has all

const KINDS = {
  image: { format: "png", face: picture, body: picture, ratio: ([h, w]) => h / w },
  points: { format: "json", face: dot, body: pointTable, ratio: () => 1 },
  audio: { format: "json", face: wave, body: sound, ratio: () => 0.5 },
  series: { format: "json", face: wave, body: drawnTable, ratio: () => 0.5 },
  video: { format: "json", face: still, body: film, ratio: ([, h, w]) => h / w },
  table: { format: "json", face: words, body: table, ratio: () => 0.6 },
  text: { format: "json", face: words, body: words, ratio: () => 0.6 },
  array: { format: "json", face: words, body: table, ratio: () => 0.6 },
};

const kindOf = (model) => KINDS[model.kind] ?? KINDS.array;

/** Returns the format to request: "png" or "json". */
export const formatOf = (model) => kindOf(model).format;

/** Returns the height of a tile divided by its width. */
export const ratioOf = (model) => Math.min(3, Math.max(1 / 3, kindOf(model).ratio(model.shape)));

/** Returns a tile width near the wanted one that is a multiple of a small picture's, else null. */
export function evenWidth(model, wanted) {
  const width = model.shape[1];
  if (model.kind !== "image" || width > SMALL) return null;
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
  return element;
}

export function pngBytes(sample) {
  return Uint8Array.from(atob(sample.png), (letter) => letter.charCodeAt(0));
}

function picture(model, sample) {
  const image = new Image(model.shape[1], model.shape[0]);
  image.src = `data:image/png;base64,${sample.png}`;
  image.decoding = "async";
  image.draggable = false;
  image.classList.toggle("pixels", model.shape[1] <= SMALL);
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
  holder.append(drawing, table(model, sample));
  holder.className = "table";
  return holder;
}

function table(model, { values }) {
  const holder = document.createElement("div");
  holder.className = "table";
  holder.tabIndex = 0; // scrolls by keyboard
  holder.role = "region";
  holder.setAttribute("aria-label", "Values");
  const element = holder.appendChild(document.createElement("table"));
  const rows = Array.isArray(values) ? values : [values];
  if (rows.length > ROWS) element.createCaption().textContent = `the first ${ROWS} of ${rows.length}`;
  rows.slice(0, ROWS).forEach((row, number) => {
    const line = element.insertRow();
    const head = line.appendChild(document.createElement("th"));
    head.scope = "row";
    head.textContent = number;
    for (const value of Array.isArray(row) ? row.flat(Infinity).slice(0, ROWS) : [row])
      line.insertCell().textContent = typeof value === "number" ? short(value) : String(value);
  });
  return holder;
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

function sound(model, sample, description) {
  const holder = document.createElement("div");
  holder.className = "sound";
  const player = document.createElement("audio");
  player.controls = true;
  player.setAttribute("aria-label", description);
  const rate = model.sample_rate ?? RATE;
  player.src = URL.createObjectURL(new Blob([wav(sample.values, model.value_range, rate)], { type: "audio/wav" }));
  player.addEventListener("loadeddata", () => URL.revokeObjectURL(player.src), { once: true });
  const note = document.createElement("p");
  note.className = "help";
  note.textContent = `${(sample.values.length / rate).toFixed(2)} s at ${rate} Hz`;
  holder.append(wave(model, sample, 320, 120), player, note);
  return holder;
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

function drawFrame(element, model, frame) {
  const [, height, width, channels] = model.shape;
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

function film(model, sample, description) {
  const holder = document.createElement("div");
  holder.className = "sound";
  const screen = holder.appendChild(document.createElement("canvas"));
  screen.role = "img";
  screen.setAttribute("aria-label", description);
  const slider = holder.appendChild(document.createElement("input"));
  slider.type = "range";
  slider.max = sample.values.length - 1;
  slider.value = 0;
  slider.setAttribute("aria-label", "Frame");
  slider.addEventListener("input", () => drawFrame(screen, model, sample.values[slider.value]));
  drawFrame(screen, model, sample.values[0]);
  return holder;
}
