// Settings, and their encoding in the address: a link reproduces the view.
import { readSeed } from "./requests.js";

export const SIZES = { s: 60, m: 88, l: 140 }; // approximate width of a tile, in CSS pixels

export const defaults = () => ({
  model: null,
  version: null, // the newest
  seed: 0n,
  label: null, // each seed's own
  truncation: 1,
  codes: null, // each seed's own; else a number for each code, as text
  constants: "", // values of constant inputs by name that are not the model's own, as a query string
  size: "m",
  sample: null, // the one that is open
});

export function readHash(hash) {
  const given = new URLSearchParams(hash.replace(/^#/, ""));
  const settings = defaults();
  const number = (name) => (/^\d+(\.\d+)?$/.test(given.get(name) ?? "") ? Number(given.get(name)) : null);
  settings.model = given.get("model");
  settings.version = number("version");
  settings.seed = readSeed(given.get("seed") ?? "") ?? settings.seed;
  settings.label = number("class");
  settings.truncation = number("truncation") ?? settings.truncation;
  settings.codes = readCodes(given.get("codes")) ? given.get("codes") : settings.codes;
  settings.constants = writeConstants(
    Object.fromEntries([...given].flatMap(([key, value]) => (key.startsWith(CONSTANT) ? [[key.slice(CONSTANT.length), value]] : []))),
  );
  settings.size = Object.hasOwn(SIZES, given.get("size")) ? given.get("size") : settings.size;
  settings.sample = readSeed(given.get("sample") ?? "");
  return settings;
}

export const FROM_SEED = -2; // in the place of a code: the seed's own

/** Parses codes; null if they are invalid, or all are the seed's own. */
export function readCodes(text) {
  const codes = String(text ?? "").split(",").map((code) => (code.trim() ? Number(code) : NaN));
  return codes.every(Number.isFinite) && codes.some((code) => code !== FROM_SEED) ? codes : null;
}

/** Returns codes as text; null if all are the seed's own. */
export const writeCodes = (codes) => (codes.some((code) => code !== FROM_SEED) ? codes.join(",") : null);

const CONSTANT = "input."; // start of their names in the address

/** Returns the typed values of constant inputs by name. */
export const readConstants = (text) => Object.fromEntries(new URLSearchParams(text));

/** Returns typed values as a text, the same one for the same values. */
export const writeConstants = (values) => new URLSearchParams(Object.entries(values).sort()).toString();

export function writeHash(settings) {
  const usual = defaults();
  const names = { model: "model", version: "version", seed: "seed", label: "class", truncation: "truncation", codes: "codes", size: "size", sample: "sample" };
  const found = new URLSearchParams();
  for (const [key, name] of Object.entries(names))
    if (settings[key] !== usual[key]) found.set(name, String(settings[key]));
  for (const [name, value] of Object.entries(readConstants(settings.constants))) found.set(`${CONSTANT}${name}`, value);
  return `#${found}`;
}
