// Dialog of one sample: full size, lines to copy, neighborhood.
import { body, face, formatOf, pngBytes } from "./kinds.js";
import { classOf, className, describe, fields, SEEDS, toCurl, toPython } from "./requests.js";
import { complain } from "./say.js";
import { save, showLines } from "./take.js";
import { rove } from "./rove.js";

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
      radius: find("radius"),
      radiusValue: find("radius-value"),
      center: find("explore-center"),
      saveText: find("explore-save-text"),
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
    find("explore-walk").addEventListener("click", () => this.#leave(() => this.on.walk(this.seed)));
    find("explore-start").addEventListener("click", () => this.#leave(() => this.on.start(this.seed)));
    this.parts.center.addEventListener("click", () => {
      this.#select(null);
      this.parts.title.focus();
    });
    dialog.addEventListener("close", () => {
      this.abort?.abort();
      clearTimeout(this.timer);
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
    complain(this.parts.problem, null);
    this.#select(null);
    this.#showRadius();
    if (!this.dialog.open) {
      this.dialog.showModal();
      this.parts.title.focus();
    }
    this.dialog.scrollTop = 0;
    this.on.opened(seed);
    if (!sample) this.#loadCenter();
    this.#neighbors();
  }

  async #loadCenter() {
    const { abort } = this;
    try {
      const found = fields(this.view, { seeds: [this.seed] }, { format: formatOf(this.model) });
      const [sample] = await this.api.samples(found, abort.signal);
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
      const found = fields(this.view, what, { format: formatOf(this.model) });
      const samples = await this.api.samples(found, signal);
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
    const what = neighbor ? this.#what(neighbor) : { seed: this.seed };
    const id = classOf(this.model, this.view, this.seed);
    this.parts.title.textContent = neighbor
      ? `Neighbor ${neighbor.seed} of seed ${this.seed}`
      : `Seed ${this.seed}`;
    const facts = [id === null ? "" : className(this.model, id), `truncation ${this.view.truncation}`];
    if (neighbor) facts.push(`radius ${neighbor.radius}`);
    this.parts.facts.replaceChildren(...facts.filter(Boolean).map(span));
    const description = describe(this.model, this.view, what);
    this.parts.figure.replaceChildren(...(sample ? [body(this.model, sample, description)] : []));
    this.parts.center.hidden = !neighbor;
    this.parts.saveText.textContent = sample?.png ? "Download PNG" : "Download .npy";
    this.#showLines(neighbor);
    [...this.parts.near.children].forEach((item, i) =>
      item.firstElementChild.setAttribute("aria-pressed", String(i === number)),
    );
  }

  #fields(neighbor, more) {
    const view = { ...this.view, version: this.view.version ?? this.model.version };
    const what = neighbor
      ? { around: this.seed, radius: neighbor.radius, seeds: [neighbor.seed] }
      : { seeds: [this.seed] };
    return fields(view, what, more);
  }

  #fileName(neighbor) {
    const end = formatOf(this.model) === "png" ? "png" : "npy";
    const near = neighbor ? `-near-${neighbor.seed}` : "";
    return `${this.model.name}-seed-${this.seed}${near}.${end}`;
  }

  #showLines(neighbor) {
    const picture = formatOf(this.model) === "png";
    const found = this.#fields(neighbor, picture ? {} : { format: "npy" });
    const token = this.api.hasToken;
    showLines(this.parts.lines, [
      ["Seed", "the seed", String(neighbor ? neighbor.seed : this.seed)],
      ["curl", "the curl line", toCurl(this.base, found, this.#fileName(neighbor), token)],
      ["Python", "the Python line", toPython(this.base, found, token)],
    ]);
  }

  async #save() {
    const neighbor = this.neighbor === null ? null : this.neighbors[this.neighbor];
    const sample = neighbor ? neighbor.sample : this.center;
    const name = this.#fileName(neighbor);
    if (sample?.png) return save(new Blob([pngBytes(sample)], { type: "image/png" }), name);
    try {
      save(await this.api.file(this.#fields(neighbor, { format: "npy" }), this.abort.signal), name);
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
