// Entry point of the page: connects the settings, the samples and the dialogs.
import { Actor } from "./act.js";
import { Api } from "./api.js";
import { Classifier } from "./classifier.js";
import { Cloud } from "./cloud.js";
import { readValues } from "./constants.js";
import { Controls } from "./controls.js";
import { Explorer } from "./explore.js";
import { Given } from "./given.js";
import { evenWidth, face, hear, isCloud, isListed, load, playbackOf, ratioOf, scaleOf } from "./kinds.js";
import { Lines } from "./lines.js";
import { codesOf, isActor, isClassifier, isSeeded, isTranslator, isVocoder, sizes, takesTruncation } from "./model.js";
import { classOf, className, describe, fields, SEEDS, toCurl, toPython } from "./requests.js";
import { complain, say, showBanner } from "./say.js";
import { defaults, readCodes, readHash, SIZES, writeHash } from "./state.js";
import { copy, save } from "./take.js";
import { askToken } from "./token.js";
import { transport } from "./video.js";
import { Translator } from "./translator.js";
import { Vocoder } from "./vocoder.js";
import { Wall } from "./wall.js";
import { Walk } from "./walk.js";

const RESULT_WIDTH = 320; // CSS pixels, of the result of a model without seeds
const LONGEST_SAVE = 120_000; // ms
const find = (name) => document.getElementById(name);
const base = new URL(".", location.href);
const api = new Api(base, askToken);
const settings = readHash(location.hash);
let models = [];
let gallery = null; // the wall, the cloud of points, or the list of texts
let playback = null; // the clock of the videos on the wall
let refreshing = false;
let start = null; // first seed of a walk whose second is being chosen

const on = {
  open: (index) => pick(seedAt(index)),
  mark: (index) => (start === null ? beginWalk(seedAt(index)) : pick(seedAt(index))),
  copy: (index) => copy(String(seedAt(index)), `seed ${seedAt(index)}`),
  start: (index) => startHere(seedAt(index)),
  error: showProblem,
  ready: (sample) => showPlayback(sample) || say(isSeeded(model()) ? `Samples from seed ${settings.seed}${inWords()}` : "The result is shown."),
};
const controls = new Controls(find("controls"), find("sizes"), change, (error) => showProblem(error, false));
const explorer = new Explorer(find("explore"), api, base, { opened, walk: beginWalk, start: startHere });
const given = new Given(find("given"), () => show(true));
const walk = new Walk(find("walk"), api, base);
const translator = new Translator(find("translate"), api, base, {
  error: (error) => (error ? showProblem(error, false) : complain(find("problem"), null)),
  turn: (name) => change({ model: name, version: null, label: null, codes: null, constants: "", sample: null }),
});

const classifier = new Classifier(find("classify"), api, base, {
  error: (error) => (error ? showProblem(error, false) : complain(find("problem"), null)),
});

const vocoder = new Vocoder(find("vocode"), api, base, {
  error: (error) => (error ? showProblem(error, false) : complain(find("problem"), null)),
});
const actor = new Actor(find("act"), api, base, {
  error: (error) => (error ? showProblem(error, false) : complain(find("problem"), null)),
});
const users = { translate: translator, classify: classifier, vocode: vocoder, act: actor }; // of what a user gives, by section

/** Returns the section that shows a model. */
const useOf = (found) =>
  isTranslator(found) ? "translate" : isClassifier(found) ? "classify" : isVocoder(found) ? "vocode" : isActor(found) ? "act" : "wall";

const model = () => models.find(({ name }) => name === settings.model);
const view = () => ({
  model: settings.model,
  version: settings.version,
  label: settings.label,
  names: model()?.classes.names ?? [],
  truncation: model() && takesTruncation(model()) ? settings.truncation : 1,
  codes: model() ? codesIn(model()) : null,
  constants: model() ? constantsIn(model()) : {},
  files: new Map(given.files),
});

/** Returns the values of constant inputs in the settings; those that the model does not take are left out. */
function constantsIn(found) {
  try {
    return readValues(found, settings.constants);
  } catch (error) {
    showProblem(error, false);
    return {};
  }
}

/** Returns the codes of the settings if the model has so many; those of files and codes exclude each other. */
function codesIn(found) {
  const [port, values] = [codesOf(found), readCodes(settings.codes)];
  const fits = port && values?.length === port.categorical.length + port.continuous;
  return fits && !given.files.size ? { name: port.name, values } : null;
}

/** The view of a copied line or link, with its version, so that it stays reproducible. */
const fixedView = () => ({ ...view(), version: settings.version ?? model().version });
const seedAt = (index) => settings.seed + BigInt(index);

function inWords() {
  const parts = [];
  if (settings.label !== null) parts.push(`class ${className(model(), settings.label)}`);
  if (view().codes) parts.push("chosen codes");
  if (view().truncation !== 1) parts.push(`truncation ${settings.truncation}`);
  return parts.map((part) => `, ${part}`).join("");
}

/** Applies a change of the settings; another model replaces all samples. */
function change(patch) {
  const changed = Object.keys(patch).filter((key) => patch[key] !== settings[key]);
  if (!changed.length) return;
  Object.assign(settings, patch);
  writeAddress();
  const fresh = changed.includes("model");
  if (fresh || changed.includes("seed")) scrollTo({ top: 0, behavior: "instant" });
  if (fresh) endPicking();
  if (changed.some((key) => key !== "sample")) show(fresh);
}

function writeAddress() {
  history.replaceState(null, "", writeHash(settings));
}

/** Shows the samples of the settings. */
function show(fresh = false) {
  const found = model();
  complain(find("problem"), null);
  controls.show(settings, models, found);
  if (!found) {
    const served = models.map(({ name }) => name).join(", ") || "none";
    return showProblem(new Error(`The server must have the model; it has ${served}. Received: model=${settings.model}`));
  }
  showTitle(found);
  const use = useOf(found);
  for (const name of [...Object.keys(users), "wall"]) find(name).hidden = name !== use;
  find("sizes").hidden = use !== "wall" || isListed(found);
  find("skip").href = `#${use}`;
  find("skip").textContent = `Skip to the ${{ wall: "samples", vocode: "sound", act: "observation" }[use] ?? "picture"}`;
  find("copy-help").textContent = {
    translate: "Copies a link to this model, or a line that translates the picture.",
    classify: "Copies a link to this model, or a line that classifies the picture.",
    vocode: "Copies a link to this model, or a line that computes the sound.",
    act: "Copies a link to this model, or a line that sends the observation.",
    wall: "Copies a link to this view, or a line that generates its samples, at most 16.",
  }[use];
  for (const [name, user] of Object.entries(users)) if (name !== use) user.hide();
  if (use !== "wall" || fresh) hidePlayback();
  offerDownloads(found);
  if (use !== "wall") return showFile(found, use);
  given.show(found);
  if (given.missing.length) return askFor(given.missing);
  const Gallery = isCloud(found) ? Cloud : isListed(found) ? Lines : Wall;
  if (!(gallery instanceof Gallery)) {
    gallery?.hide();
    find("wall").replaceChildren();
    find("wall").className = "wall";
    gallery = new Gallery(find("wall"), on);
  }
  const now = view();
  const seeded = isSeeded(found);
  const size = seeded ? SIZES[settings.size] * scaleOf(found) : RESULT_WIDTH;
  const count = seeded ? SEEDS - settings.seed : 1n;
  const from = settings.seed;
  gallery.show(
    {
      model: found,
      width: size,
      even: seeded ? evenWidth(found, size) : size,
      ratio: ratioOf(found, given.ratio),
      range: found.value_range,
      count: Number(count < 2n ** 40n ? count : 2n ** 40n),
      load: (indices, signal) => {
        const seeds = indices.map((index) => from + BigInt(index));
        return load(api, found, now, seeded ? { seeds } : {}, signal);
      },
      face: (sample) => face(found, sample),
      name: (index) => describe(found, now, { seed: seeded ? from + BigInt(index) : null }),
      tag: (index) => (seeded ? tag(found, now, from + BigInt(index)) : "result"),
    },
    { fresh },
  );
}

/** Shows what a model makes of a chosen file in the place of samples. */
function showFile(found, use) {
  gallery?.hide();
  gallery = null;
  given.hide();
  const shown = { model: settings.model, version: settings.version };
  if (isSeeded(found)) shown.seed = settings.seed;
  users[use].show(found, shown, models);
}

/** Asks for the files of given inputs in the place of samples. */
function askFor(names) {
  gallery?.hide();
  gallery = null;
  const line = document.createElement("p");
  line.className = "facts";
  line.textContent = `Choose a file for ${names.join(" and ")} to see the samples.`;
  find("wall").className = "wall";
  find("wall").replaceChildren(line);
}

function tag(found, now, seed) {
  const id = classOf(found, now, seed);
  return id === null ? `${seed}` : `${seed} · ${className(found, id)}`;
}

function showTitle(found) {
  document.title = `${found.name} · samples`;
  find("name").textContent = found.name;
  const facts = [
    found.kind,
    sizes(found.shape),
    found.classes.count ? `${found.classes.count} classes` : "",
    `version ${settings.version ?? found.version}`,
  ];
  find("facts").replaceChildren(
    ...facts.filter(Boolean).map((text) => Object.assign(document.createElement("span"), { textContent: text })),
  );
}

function showProblem(error, again = true) {
  complain(find("problem"), error);
  find("problem-again").hidden = !again;
}

// Opening a sample, and choosing the two ends of a walk

function pick(seed) {
  if (start === null) return open(seed);
  const from = start;
  endPicking();
  walk.open(model(), view(), from, seed);
}

function open(seed) {
  if (!gallery) return;
  const index = Number(seed - settings.seed);
  explorer.open(model(), view(), seed, seed >= settings.seed ? gallery.sample(index) : undefined);
}

function opened(seed) {
  settings.sample = seed;
  writeAddress();
}

function beginWalk(seed) {
  start = seed;
  gallery.mark(Number(seed - settings.seed));
  find("tray-text").textContent = `From seed ${seed}: pick the sample to walk to`;
  find("tray").hidden = false;
  say(find("tray-text").textContent);
}

function endPicking() {
  start = null;
  gallery?.mark(null);
  find("tray").hidden = true;
}

function startHere(seed) {
  change({ seed });
}

// Buttons

find("open-walk").addEventListener("click", () => {
  if (!model()) return;
  const next = settings.seed + 1n < SEEDS ? settings.seed + 1n : settings.seed - 1n;
  walk.open(model(), view(), start ?? settings.seed, next);
  endPicking();
});
find("tray-cancel").addEventListener("click", () => {
  endPicking();
  gallery?.focus(gallery.current);
});
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && start !== null && !document.querySelector("dialog[open]")) endPicking();
});

/**
 * Plays or pauses the videos by the key P, and shows the frame before or after by comma and period. P plays or stops a
 * sound: that of the open dialog, of the vocoder, or of the tile with the focus.
 */
addEventListener("keydown", (event) => {
  const typed = event.target.matches?.("select, textarea, input:not([type=range], [type=radio], [type=file])");
  const key = event.key.toLowerCase();
  if (event.ctrlKey || event.altKey || event.metaKey || typed) return;
  if (playback && ["p", ",", "."].includes(key)) {
    if (key === "p") playback.toggle();
    else playback.seek(playback.frame + (key === "," ? -1 : 1));
    return say(playback.playing ? "Playing" : `Paused at frame ${playback.frame + 1} of ${playback.count}`);
  }
  if (key !== "p") return;
  const dialog = document.querySelector("dialog[open]");
  if (dialog) return dialog.querySelector(".sound")?.toggle?.();
  if (!find("vocode").hidden) return vocoder.toggle();
  const index = Number(document.activeElement?.closest("#wall .tile")?.dataset.index ?? NaN);
  if (Number.isNaN(index)) return;
  const plays = hear(model(), gallery.sample(index), `${settings.model} ${seedAt(index)}`);
  if (plays !== null) say(`${plays ? "Playing" : "Stopped"} the sample of seed ${seedAt(index)}`);
});

/** Shows the controls of samples that play, those of the first one; they are the same for all. */
function showPlayback(sample) {
  const clock = playbackOf(model(), sample);
  if (clock && clock !== playback) find("loops").replaceChildren(transport(clock));
  playback = clock;
  find("loops").hidden = !clock;
}

function hidePlayback() {
  playback = null;
  find("loops").hidden = true;
  find("loops").replaceChildren();
}

/** Offers the formats of files with many samples: lines, or one picture of all. */
function offerDownloads({ line_formats: names }) {
  const format = find("grid-format");
  const key = names.join();
  if (format.dataset.names !== key) format.replaceChildren(...names.map((name) => new Option(`.${name}`, name)), new Option(".png", "grid"));
  format.dataset.names = key;
  format.hidden = !names.length;
  find("save-grid-text").textContent = names.length ? "Download" : "Download a grid";
}

const viewSeeds = (count) => {
  const left = SEEDS - settings.seed;
  return Array.from({ length: Number(left < BigInt(count) ? left : BigInt(count)) }, (_, i) => settings.seed + BigInt(i));
};
const viewFile = (count) => {
  const found = model();
  const what = isSeeded(found) ? { seed: settings.seed, count: viewSeeds(count).length } : {};
  const format = find("grid-format").value || "grid";
  const more = format === "grid" && isSeeded(found) ? { format, columns: Math.ceil(Math.sqrt(count)) } : { format };
  const name = isSeeded(found) ? `${found.name}-seeds-${settings.seed}-${count}` : `${found.name}-result`;
  return [fields(fixedView(), what, more), `${name}.${format === "grid" ? "png" : format}`];
};

find("save-grid").addEventListener("click", async ({ currentTarget: button }) => {
  if (!model()) return;
  const [found, name] = viewFile(Number(find("grid-count").value));
  const limit = AbortSignal.timeout(LONGEST_SAVE);
  button.disabled = true;
  try {
    save(await api.file(found, limit, given.files), name);
  } catch (error) {
    const line = limit.aborted ? "The server did not answer within two minutes: try again later." : null;
    showProblem(line ? new Error(line) : error, false);
  } finally {
    button.disabled = false;
  }
});

for (const button of document.querySelectorAll("[data-copy]"))
  button.addEventListener("click", () => {
    if (!model()) return;
    const what = button.dataset.copy;
    if (what === "link") {
      const fixed = { ...settings, version: settings.version ?? model().version };
      return copy(new URL(writeHash(fixed), location.href).href, "the link");
    }
    const user = users[useOf(model())];
    if (user) return copy(user.line(what), `the ${what === "curl" ? "curl" : "Python"} line`);
    const [found, name] = viewFile(16);
    const isText = model().line_formats.includes(found.format);
    const line =
      what === "curl" ? toCurl(base, found, name, api.hasToken, given.files) : toPython(base, found, api.hasToken, given.files, isText);
    copy(line, `the ${what === "curl" ? "curl" : "Python"} line`);
  });

find("settings-toggle").addEventListener("click", ({ currentTarget: button }) => {
  const shown = find("controls").classList.toggle("open");
  button.setAttribute("aria-expanded", String(shown));
  if (shown) scrollTo({ top: 0, behavior: "instant" });
});
for (const dialog of document.querySelectorAll("dialog")) {
  dialog.querySelector("[data-close]")?.addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog && dialog.id !== "token") dialog.close(); // a click on the backdrop
  });
}
find("problem-again").addEventListener("click", () => begin());

// Availability of the server

api.addEventListener("away", ({ detail }) => {
  showBanner(`${detail.line} Trying again in ${detail.seconds} s.`);
});
api.addEventListener("back", () => {
  if (!find("banner").hidden) say("The server is back.", { seen: true });
  showBanner(null);
  refresh();
});
find("banner-now").addEventListener("click", () => api.tryNow());

api.addEventListener("quiet", () => showBanner(null));

/** Reloads the list of models: versions may appear while the server runs. */
async function refresh() {
  if (!models.length || refreshing) return;
  refreshing = true;
  try {
    models = await api.models();
    controls.show(settings, models, model());
    if (model()) showTitle(model());
  } catch {
    // the next request reports the error
  } finally {
    refreshing = false;
  }
}

addEventListener("hashchange", () => {
  const before = settings.model;
  Object.assign(settings, defaults(), readHash(location.hash));
  settings.model ??= models[0]?.name ?? null;
  scrollTo({ top: 0, behavior: "instant" });
  show(before !== settings.model);
  if (settings.sample !== null && gallery) open(settings.sample);
});

async function begin() {
  complain(find("problem"), null);
  try {
    models = await api.models();
    if (!models.length) throw new Error("The server has not loaded a model yet.");
    settings.model ??= models[0].name;
    show(true);
    if (settings.sample !== null && gallery) open(settings.sample);
  } catch (error) {
    showProblem(error);
  }
}

begin();
