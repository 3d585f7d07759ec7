// Dialog of one sample: full size, lines to copy, neighborhood.
import { body, face, formatOf, isListed, load, pngBytes } from "./kinds.js";
import { canWalk, fileFormat, filesOf, isSeeded, othersOf } from "./model.js";
import { classOf, className, describe, fields, SEEDS, toCurl, toPython } from "./requests.js";
import { complain } from "./say.js";
import { save, showLines } from "./take.js";
import { rove } from "./rove.js";
import { closePlayers } from "./sound.js";

const NEIGHBORS = 24n;
const WAIT = 150; // ms from the last move of the slider to the request

export class Explorer {
  /** on: {opened(seed or null), walk(seed), start(seed)}. */
  constructor(dialog, api, base, on) {
    this.dialog = dialog;
    this.api = api;
    this.base = base;
    this.on = on;
    this.radius = 0.3;
    const find = (name) => dialog.querySelector(`#${name}`);
    this.parts = {
      title: find("explore-title"),
      facts: find("explore-facts"),
      figure: find("explore-figure"),
      lines: find("explore-lines"),
      near: find("near"),
      outputs: find("explore-outputs"),
      radius: find("radius"),
      radiusValue: find("radius-value"),
      center: find("explore-center"),
      saveText: find("explore-save-text"),
      format: find("explore-format"),
      problem: dialog.querySelector("[data-problem]"),
    };
    this.parts.radius.value = this.radius;
    this.parts.radius.addEventListener("input", () => {
      this.radius = Number(this.parts.radius.value);
      this.#showRadius();
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.#neighbors(), WAIT);
    });
    find("explore-previous").addEventListener("click", () => this.#move(-1n));
    find("explore-next").addEventListener("click", () => this.#move(1n));
    find("explore-save").addEventListener("click", () => this.#save());
    this.parts.format.addEventListener("change", () => this.#select(this.neighbor));
    find("explore-walk").addEventListener("click", () => this.#leave(() => this.on.walk(this.seed)));
    find("explore-start").addEventListener("click", () => this.#leave(() => this.on.start(this.seed)));
    this.parts.center.addEventListener("click", () => {
      this.#select(null);
      this.parts.title.focus();
    });
    dialog.addEventListener("close", () => {
      this.abort?.abort();
      clearTimeout(this.timer);
      if (!dialog.open) closePlayers(dialog);
      this.on.opened(null);
    });
    rove(this.parts.near);
  }

  /** sample: the one that the wall has loaded, or undefined. */
  open(model, view, seed, sample) {
    this.abort?.abort();
    this.abort = new AbortController();
    Object.assign(this, { model, view, seed, neighbors: [], neighbor: null });
    this.center = sample;
    this.parts.near.replaceChildren();
    this.parts.near.classList.toggle("wide", isListed(model));
    this.#offerFormats();
    complain(this.parts.problem, null);
    this.#select(null);
    this.#showRadius();
    if (!this.dialog.open) {
      this.dialog.showModal();
      this.parts.title.focus();
    }
    this.dialog.scrollTop = 0;
    for (const element of this.dialog.querySelectorAll("[data-seeded]")) element.hidden = !isSeeded(model);
    for (const element of this.dialog.querySelectorAll("[data-walk]")) element.hidden = !canWalk(model);
    this.on.opened(seed);
    if (!sample) this.#loadCenter();
    if (canWalk(model)) this.#neighbors();
  }

  /** Offers the file formats of the samples' kind, and keeps the chosen one. */
  #offerFormats() {
    const { format } = this.parts;
    const names = filesOf(this.model);
    const chosen = names.includes(format.value) ? format.value : fileFormat(this.model);
    format.replaceChildren(...names.map((name) => new Option(name)));
    format.hidden = names.length < 2;
    if (names.length) format.value = chosen;
  }

  /** The format of the download and of the lines to copy. */
  get #format() {
    return this.parts.format.value || fileFormat(this.model);
  }

  async #loadCenter() {
    const { abort } = this;
    try {
      const [sample] = await load(this.api, this.model, this.view, this.#request(null), abort.signal);
      if (abort.signal.aborted) return;
      this.center = sample;
      if (this.neighbor === null) this.#select(null);
    } catch (error) {
      if (!abort.signal.aborted) complain(this.parts.problem, error);
    }
  }

  /** Loads the neighbors: the latents of the following seeds are the directions. */
  async #neighbors() {
    this.nearAbort?.abort();
    this.nearAbort = new AbortController();
    const signal = AbortSignal.any([this.abort.signal, this.nearAbort.signal]);
    const first = this.seed + NEIGHBORS < SEEDS ? this.seed + 1n : this.seed - NEIGHBORS;
    const seeds = Array.from({ length: Number(NEIGHBORS) }, (_, i) => first + BigInt(i));
    const what = { around: this.seed, radius: this.radius, seeds };
    this.parts.near.setAttribute("aria-busy", "true");
    try {
      const samples = await load(this.api, this.model, this.view, what, signal);
      if (signal.aborted) return;
      complain(this.parts.problem, null);
      this.neighbors = samples.map((sample, i) => ({ sample, seed: seeds[i], radius: what.radius }));
      this.#showNeighbors();
      if (this.neighbor !== null) this.#select(this.neighbor);
    } catch (error) {
      if (!signal.aborted) complain(this.parts.problem, error);
    } finally {
      if (!signal.aborted) this.parts.near.removeAttribute("aria-busy");
    }
  }

  #showNeighbors() {
    const { near } = this.parts;
    while (near.childElementCount < this.neighbors.length) {
      const tile = document.createElement("button");
      tile.type = "button";
      tile.className = "tile";
      const number = near.childElementCount;
      tile.addEventListener("click", () => this.#select(this.neighbor === number ? null : number));
      near.appendChild(document.createElement("li")).append(tile);
    }
    this.neighbors.forEach((neighbor, number) => {
      const tile = near.children[number].firstElementChild;
      tile.replaceChildren(face(this.model, neighbor.sample));
      tile.setAttribute("aria-label", describe(this.model, this.view, this.#what(neighbor)));
      tile.setAttribute("aria-pressed", String(this.neighbor === number));
    });
  }

  #what(neighbor) {
    return { seed: neighbor.seed, around: this.seed, radius: neighbor.radius };
  }

  /** Shows a neighbor, or the sample itself for null. */
  #select(number) {
    this.neighbor = number;
    const neighbor = number === null ? null : this.neighbors[number];
    const sample = neighbor ? neighbor.sample : this.center;
    const seeded = isSeeded(this.model);
    const what = neighbor ? this.#what(neighbor) : { seed: seeded ? this.seed : null };
    const id = seeded ? classOf(this.model, this.view, this.seed) : null;
    this.parts.title.textContent = neighbor
      ? `Neighbor ${neighbor.seed} of seed ${this.seed}`
      : seeded ? `Seed ${this.seed}` : "Result";
    const facts = [id === null ? "" : className(this.model, id), seeded ? `truncation ${this.view.truncation}` : ""];
    if (neighbor) facts.push(`radius ${neighbor.radius}`);
    this.parts.facts.replaceChildren(...facts.filter(Boolean).map(span));
    const description = describe(this.model, this.view, what);
    closePlayers(this.parts.figure);
    this.parts.figure.replaceChildren(...(sample ? [body(this.model, sample, description)] : []));
    this.parts.center.hidden = !neighbor;
    this.parts.saveText.textContent = `Download ${this.parts.format.hidden ? `.${this.#format}` : ""}`.trim();
    this.#showLines(neighbor);
    this.#showOutputs(neighbor, sample, description);
    [...this.parts.near.children].forEach((item, i) =>
      item.firstElementChild.setAttribute("aria-pressed", String(i === number)),
    );
  }

  /** Lists the other outputs of the network; a picture in PNG comes without them. */
  async #showOutputs(neighbor, sample, description) {
    const { outputs } = this.parts;
    const others = othersOf(this.model);
    outputs.hidden = !others.length;
    closePlayers(outputs);
    outputs.replaceChildren();
    if (!others.length || !sample) return;
    const { signal } = this.abort;
    try {
      if (!sample.outputs) {
        const found = this.#fields(neighbor, { format: "json" });
        const [full] = await this.api.samples(found, signal, this.view.files);
        sample.outputs = full.outputs;
      }
    } catch (error) {
      if (!signal.aborted) complain(this.parts.problem, error);
      return;
    }
    const current = this.neighbor === null ? this.center : this.neighbors[this.neighbor].sample;
    if (signal.aborted || current !== sample) return;
    outputs.replaceChildren(
      ...others.flatMap((port) => {
        const title = document.createElement("h3");
        title.textContent = port.name;
        const figure = document.createElement("figure");
        figure.className = "figure";
        figure.append(body(port, { values: sample.outputs[port.name] }, `${port.name} of ${description}`));
        return [title, figure];
      }),
    );
  }

  /** Returns the fields that name the sample, or a neighbor of it. */
  #request(neighbor) {
    if (neighbor) return { around: this.seed, radius: neighbor.radius, seeds: [neighbor.seed] };
    return isSeeded(this.model) ? { seeds: [this.seed] } : {};
  }

  #fields(neighbor, more) {
    const view = { ...this.view, version: this.view.version ?? this.model.version };
    return fields(view, this.#request(neighbor), more);
  }

  #fileName(neighbor) {
    const near = neighbor ? `-near-${neighbor.seed}` : "";
    const seed = isSeeded(this.model) ? `-seed-${this.seed}` : "-result";
    return `${this.model.name}${seed}${near}.${this.#format}`;
  }

  #showLines(neighbor) {
    const picture = this.#format === formatOf(this.model) && this.#format === "png";
    const found = this.#fields(neighbor, picture ? {} : { format: this.#format });
    const isText = this.model.line_formats.includes(this.#format);
    const token = this.api.hasToken;
    const seed = ["Seed", "the seed", String(neighbor ? neighbor.seed : this.seed)];
    const { files } = this.view;
    showLines(this.parts.lines, [
      ...(isSeeded(this.model) ? [seed] : []),
      ["curl", "the curl line", toCurl(this.base, found, this.#fileName(neighbor), token, files)],
      ["Python", "the Python line", toPython(this.base, found, token, files, isText)],
    ]);
  }

  async #save() {
    const neighbor = this.neighbor === null ? null : this.neighbors[this.neighbor];
    const sample = neighbor ? neighbor.sample : this.center;
    const name = this.#fileName(neighbor);
    if (sample?.png && this.#format === "png") return save(new Blob([pngBytes(sample)], { type: "image/png" }), name);
    try {
      const found = this.#fields(neighbor, { format: this.#format });
      save(await this.api.file(found, this.abort.signal, this.view.files), name);
    } catch (error) {
      complain(this.parts.problem, error);
    }
  }

  #showRadius() {
    this.parts.radiusValue.textContent = this.radius.toFixed(2);
  }

  #move(step) {
    const seed = this.seed + step;
    if (seed >= 0n && seed < SEEDS) this.open(this.model, this.view, seed);
  }

  #leave(then) {
    this.dialog.close();
    then();
  }
}

function span(text) {
  const element = document.createElement("span");
  element.textContent = text;
  return element;
}
