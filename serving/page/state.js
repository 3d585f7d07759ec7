// Settings, and their encoding in the address: a link reproduces the view.
import { readSeed } from "./requests.js";

export const SIZES = { s: 60, m: 88, l: 140 }; // approximate width of a tile, in CSS pixels

export const defaults = () => ({
  model: null,
  version: null, // the newest
  seed: 0n,
  label: null, // each seed's own
  truncation: 1,
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
  settings.size = Object.hasOwn(SIZES, given.get("size")) ? given.get("size") : settings.size;
  settings.sample = readSeed(given.get("sample") ?? "");
  return settings;
}

export function writeHash(settings) {
  const usual = defaults();
  const names = { model: "model", version: "version", seed: "seed", label: "class", truncation: "truncation", size: "size", sample: "sample" };
  const found = new URLSearchParams();
  for (const [key, name] of Object.entries(names))
    if (settings[key] !== usual[key]) found.set(name, String(settings[key]));
  return `#${found}`;
}
