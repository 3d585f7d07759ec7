// Players of sound: waveform over log-mel spectrogram, play and stop, volume.

const WIDTH = 640; // CSS pixels of the drawing; the style scales it
const WAVE = 96;
const MELS = 48; // rows of the spectrogram, enlarged to HIGH
const HIGH = 112;
const LEAST = -80; // dB; 0 dB is a full-scale tone
const COLORS = [[0, 0, 4], [81, 18, 124], [183, 55, 121], [252, 137, 97], [252, 253, 191]];
const VOLUME = "keras-gan-volume";
const [LEAST_RATE, MOST_RATE] = [8000, 96000]; // Hz, of an OfflineAudioContext in every browser
const RATE = 48000; // Hz, at which other files than WAV are decoded

let playing = null; // the player that sounds; there is one at most

/**
 * Returns the samples of channel 0 of a WAV file, and its sampling rate in Hz; null for another file. The samples are
 * null for another encoding than integers of 16 bits.
 */
export function readWav(buffer) {
  const view = new DataView(buffer);
  const name = (at) => String.fromCharCode(...new Uint8Array(buffer, at, 4));
  if (buffer.byteLength < 12 || name(0) !== "RIFF" || name(8) !== "WAVE") return null;
  let format = null;
  for (let at = 12; at + 8 <= buffer.byteLength; ) {
    const size = view.getUint32(at + 4, true);
    if (name(at) === "fmt " && at + 24 <= buffer.byteLength)
      format = { code: view.getUint16(at + 8, true), channels: view.getUint16(at + 10, true), rate: view.getUint32(at + 12, true), bits: view.getUint16(at + 22, true) };
    if (name(at) === "data") {
      if (!format?.channels || !format.rate) return null;
      if (format.code !== 1 || format.bits !== 16) return { samples: null, rate: format.rate };
      const bytes = Math.min(size || Infinity, buffer.byteLength - at - 8); // 0: until the end, as the server reads it
      const count = Math.floor(bytes / 2 / format.channels);
      const samples = Float32Array.from({ length: count }, (_, i) => view.getInt16(at + 8 + 2 * i * format.channels, true) / 32767);
      return { samples, rate: format.rate };
    }
    at += 8 + size + (size % 2);
  }
  return null;
}

/** Returns the samples of channel 0 of any file that the browser plays, and their rate: the file's if it is a WAV file. */
export async function decode(blob) {
  const buffer = await blob.arrayBuffer();
  const own = readWav(buffer);
  if (own?.samples) return own;
  const rate = Math.min(MOST_RATE, Math.max(LEAST_RATE, own?.rate ?? RATE));
  const found = await new OfflineAudioContext(1, 1, rate).decodeAudioData(buffer); // resamples to this rate
  return { samples: found.getChannelData(0), rate: found.sampleRate };
}

/** Returns a player as an element. sound: {samples, rate}; blob: the file to play; name: for assistive technology. */
export function player(sound, blob, name) {
  const { samples, rate } = sound;
  const seconds = samples.length / rate;
  const root = document.createElement("div");
  root.className = "sound";
  const stage = root.appendChild(document.createElement("div"));
  stage.className = "sound-stage";
  const drawing = stage.appendChild(document.createElement("canvas"));
  drawing.role = "img";
  drawing.setAttribute("aria-label", `Waveform and spectrogram of ${name}`);
  draw(drawing, samples, rate);
  const line = stage.appendChild(document.createElement("div"));
  line.className = "sound-line";
  line.hidden = true;
  const audio = new Audio();
  audio.preload = "auto";
  audio.src = URL.createObjectURL(blob);
  audio.addEventListener("loadeddata", () => (audio.dataset.loaded = ""), { once: true });
  root.append(audio); // without controls of its own, it is not shown
  const controls = root.appendChild(document.createElement("div"));
  controls.className = "player";
  const button = controls.appendChild(document.createElement("button"));
  button.type = "button";
  button.dataset.play = "";
  const volume = controls.appendChild(document.createElement("input"));
  Object.assign(volume, { type: "range", min: 0, max: 1, step: 0.05, value: storedVolume() });
  volume.setAttribute("aria-label", `Volume of ${name}`);
  const facts = controls.appendChild(document.createElement("output"));
  facts.textContent = `${seconds.toFixed(2)} s at ${rate} Hz, peak ${peak(samples).toFixed(2)}`;
  audio.volume = Number(volume.value);
  volume.addEventListener("input", () => {
    audio.volume = Number(volume.value);
    storeVolume(volume.value);
  });
  const show = () => {
    button.textContent = audio.paused ? "Play" : "Stop";
    button.setAttribute("aria-label", `${audio.paused ? "Play" : "Stop"} ${name}`);
    line.hidden = audio.paused;
  };
  const follow = () => {
    if (audio.paused) return;
    if (!root.isConnected) return stop();
    line.style.left = `${(100 * audio.currentTime) / Math.max(seconds, 1e-9)}%`;
    requestAnimationFrame(follow);
  };
  const stop = () => {
    audio.pause();
    audio.currentTime = 0;
  };
  const start = async () => {
    if (playing && playing !== audio) playing.pause();
    playing = audio;
    audio.currentTime = 0;
    try {
      await audio.play();
    } catch (error) {
      facts.textContent = `This browser cannot play the sound: ${error.message}`;
    }
  };
  button.addEventListener("click", () => (audio.paused ? start() : stop()));
  for (const type of ["play", "pause", "ended"]) audio.addEventListener(type, show);
  audio.addEventListener("play", follow);
  root.toggle = () => button.click();
  root.audio = audio;
  root.close = () => {
    audio.pause();
    URL.revokeObjectURL(audio.src);
  };
  show();
  return root;
}

/** Ends the players in an element before they are removed or hidden, and frees their files. */
export function closePlayers(element) {
  for (const sound of element.querySelectorAll(".sound")) sound.close();
}

let heard = null; // the sound without a player: {key, audio}

/** Plays a sound without a player, or stops it if it is the one that plays; returns whether it plays. */
export function listen(key, file) {
  const again = heard?.key === key && !heard.audio.paused;
  if (heard) {
    heard.audio.pause();
    URL.revokeObjectURL(heard.audio.src);
  }
  heard = null;
  if (again) return false;
  playing?.pause();
  const audio = new Audio(URL.createObjectURL(file));
  audio.volume = Number(storedVolume());
  audio.addEventListener("ended", () => URL.revokeObjectURL(audio.src), { once: true });
  heard = { key, audio };
  playing = audio;
  audio.play().catch(() => {}); // the dialog's player says why it cannot
  return true;
}

function storedVolume() {
  try {
    return localStorage.getItem(VOLUME) ?? 1;
  } catch {
    return 1;
  }
}

function storeVolume(value) {
  try {
    localStorage.setItem(VOLUME, value);
  } catch {
    // storage is not allowed
  }
}

function peak(samples) {
  let most = 0;
  for (const x of samples) most = Math.max(most, Math.abs(x));
  return most;
}

/** Draws the waveform of samples over their log-mel spectrogram. */
export function draw(canvas, samples, rate, width = WIDTH, wave = WAVE, high = HIGH) {
  canvas.width = width;
  canvas.height = wave + high;
  const pen = canvas.getContext("2d");
  pen.fillStyle = getComputedStyle(document.body).color;
  for (let x = 0; x < width; x++) {
    const from = Math.floor((x * samples.length) / width);
    const to = Math.max(from + 1, Math.floor(((x + 1) * samples.length) / width));
    let [low, top] = [Infinity, -Infinity];
    for (let i = from; i < to && i < samples.length; i++) [low, top] = [Math.min(low, samples[i]), Math.max(top, samples[i])];
    if (low > top) continue;
    const at = (value) => (wave / 2) * (1 - Math.min(1, Math.max(-1, value)));
    pen.fillRect(x, at(top), 1, Math.max(1, at(low) - at(top)));
  }
  pen.drawImage(colored(spectrogram(samples, rate, width), LEAST, 0), 0, wave, width, high);
}

/** Returns a picture of values [time][band], low bands at its bottom; `low` is black, `high` the lightest color. */
export function colored(columns, low, high) {
  const [width, height] = [columns.length, columns[0]?.length ?? 0];
  const picture = new OffscreenCanvas(Math.max(1, width), Math.max(1, height));
  const ink = picture.getContext("2d");
  const image = ink.createImageData(picture.width, picture.height);
  columns.forEach((column, x) =>
    column.forEach((value, band) => {
      const at = 4 * ((height - 1 - band) * width + x);
      image.data.set([...color((value - low) / (high - low)), 255], at);
    }),
  );
  ink.putImageData(image, 0, 0);
  return picture;
}

function color(share) {
  const at = Math.min(1, Math.max(0, share)) * (COLORS.length - 1);
  const from = Math.min(COLORS.length - 2, Math.floor(at));
  return COLORS[from].map((low, i) => low + (at - from) * (COLORS[from + 1][i] - low));
}

/** Returns the levels of mel bands in dB, for each of `columns` times; 0 dB is a full-scale tone. */
export function spectrogram(samples, rate, columns, mels = MELS) {
  const size = 2 ** Math.round(Math.log2(Math.max(64, 0.032 * rate)));
  const hann = Float64Array.from({ length: size }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / size));
  const bands = melBands(rate, size, mels);
  const found = [];
  for (let column = 0; column < columns; column++) {
    const start = Math.round(((column + 0.5) * samples.length) / columns - size / 2);
    const [re, im] = [new Float64Array(size), new Float64Array(size)];
    for (let i = 0; i < size; i++) re[i] = (samples[start + i] ?? 0) * hann[i];
    transform(re, im);
    found.push(
      bands.map(([first, weights]) => {
        let sum = 0;
        weights.forEach((weight, i) => (sum += weight * Math.hypot(re[first + i], im[first + i])));
        return Math.max(LEAST, 20 * Math.log10((4 * sum) / size + 1e-9));
      }),
    );
  }
  return found;
}

/** Returns triangular bands of peak 1 as [first bin, weights]; a band narrower than a bin takes the nearest one. */
function melBands(rate, size, mels) {
  const toMel = (hz) => 2595 * Math.log10(1 + hz / 700);
  const toHz = (mel) => 700 * (10 ** (mel / 2595) - 1);
  const edges = Array.from({ length: mels + 2 }, (_, i) => (toHz((i * toMel(rate / 2)) / (mels + 1)) * size) / rate);
  return Array.from({ length: mels }, (_, band) => {
    const [low, middle, high] = edges.slice(band, band + 3);
    const first = Math.ceil(low);
    const weights = [];
    for (let bin = first; bin < high; bin++)
      weights.push(bin < middle ? (bin - low) / (middle - low) : (high - bin) / (high - middle));
    return weights.some((x) => x > 0.1) ? [first, weights] : [Math.round(middle), [1]];
  });
}

/** Transforms complex numbers in place: a radix-2 FFT. */
function transform(re, im) {
  const size = re.length;
  for (let i = 1, j = 0; i < size; i++) {
    let bit = size >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) [re[i], re[j], im[i], im[j]] = [re[j], re[i], im[j], im[i]];
  }
  for (let span = 2; span <= size; span <<= 1) {
    const half = span >> 1;
    for (let k = 0; k < half; k++) {
      const angle = (-2 * Math.PI * k) / span;
      const [c, s] = [Math.cos(angle), Math.sin(angle)];
      for (let i = k; i < size; i += span) {
        const [x, y] = [re[i + half] * c - im[i + half] * s, re[i + half] * s + im[i + half] * c];
        [re[i + half], im[i + half], re[i], im[i]] = [re[i] - x, im[i] - y, re[i] + x, im[i] + y];
      }
    }
  }
}
