// Arrays of numpy: `.npy` files of versions 1 to 3, in C order and little-endian.

const TYPES = { "<f4": Float32Array, "<f8": Float64Array, "|i1": Int8Array, "|u1": Uint8Array, "<i2": Int16Array, "<u2": Uint16Array, "<i4": Int32Array, "<u4": Uint32Array };

/** Returns {shape, values} of a file; values are in the order of the last axis first. */
export function readNpy(buffer) {
  const view = new DataView(buffer);
  const magic = buffer.byteLength > 10 && view.getUint8(0) === 0x93 && view.getUint32(1) === 0x4e554d50; // "NUMP"
  if (!magic) throw new Error("The server's response is not an .npy file.");
  const isLong = view.getUint8(6) > 1;
  const start = isLong ? 12 : 10;
  const size = isLong ? view.getUint32(8, true) : view.getUint16(8, true);
  const head = new TextDecoder("latin1").decode(new Uint8Array(buffer, start, size));
  const type = /'descr': '([^']+)'/.exec(head)?.[1];
  const shape = [...(/'shape': \(([^)]*)\)/.exec(head)?.[1] ?? "").matchAll(/\d+/g)].map(Number);
  const bytes = buffer.slice(start + size);
  if (/'fortran_order': True/.test(head) || !(type === "<f2" || type in TYPES))
    throw new Error(`The page reads arrays of numbers. Received: ${head.slice(0, 80)}`);
  return { shape, values: type === "<f2" ? halves(bytes) : new TYPES[type](bytes) };
}

/** Returns the samples of an array [sample][...], each {shape, values}. */
export function split({ shape, values }) {
  const one = shape.slice(1);
  const size = one.reduce((product, n) => product * n, 1);
  return Array.from({ length: shape[0] }, (_, i) => ({ shape: one, values: values.subarray(i * size, (i + 1) * size) }));
}

function halves(bytes) {
  return Float32Array.from(new Uint16Array(bytes), (bits) => {
    const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
    const size = exponent === 0 ? fraction * 2 ** -24 : exponent === 31 ? (fraction ? NaN : Infinity) : (1 + fraction / 1024) * 2 ** (exponent - 15);
    return bits & 0x8000 ? -size : size;
  });
}
