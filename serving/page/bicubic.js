// Bicubic enlargement, as Pillow computes it: the kernel of Keys with a = -0.5, rows before columns.

const A = -0.5;

function kernel(x) {
  x = Math.abs(x);
  if (x < 1) return ((A + 2) * x - (A + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * A : 0;
}

/** Returns, for each new pixel of an axis, the first old pixel and the weights of up to five. */
function weightsOf(size, scale) {
  return Array.from({ length: size * scale }, (_, i) => {
    const center = (i + 0.5) / scale;
    const first = Math.max(0, Math.trunc(center - 2 + 0.5));
    const last = Math.min(size, Math.trunc(center + 2 + 0.5));
    const weights = Array.from({ length: last - first }, (_, k) => kernel(first + k - center + 0.5));
    const sum = weights.reduce((total, x) => total + x, 0);
    return [first, weights.map((x) => x / sum)];
  });
}

/** Enlarges rows of four channels along their length. */
function enlarge(source, lines, size, scale, lineStep, step, target, targetLineStep, targetStep) {
  const weights = weightsOf(size, scale);
  for (let line = 0; line < lines; line++)
    weights.forEach(([first, parts], i) => {
      for (let channel = 0; channel < 4; channel++) {
        let sum = 0;
        for (let k = 0; k < parts.length; k++)
          sum += parts[k] * source[line * lineStep + (first + k) * step + channel];
        target[line * targetLineStep + i * targetStep + channel] = sum; // rounded and clamped
      }
    });
}

/** Returns a canvas with a canvas of any size, enlarged by an integer factor. */
export function bicubic(canvas, scale) {
  const { width, height } = canvas;
  const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
  const wide = new Uint8ClampedArray(4 * width * scale * height);
  enlarge(data, height, width, scale, 4 * width, 4, wide, 4 * width * scale, 4);
  const found = document.createElement("canvas");
  found.width = width * scale;
  found.height = height * scale;
  const pen = found.getContext("2d");
  const image = pen.createImageData(found.width, found.height);
  enlarge(wide, found.width, height, scale, 4, 4 * found.width, image.data, 4, 4 * found.width);
  pen.putImageData(image, 0, 0);
  return found;
}
