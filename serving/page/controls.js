// Form of the settings: shows them and reports changes by the user.
import { Constants } from "./constants.js";
import { canWalk, codesOf, isGallery, isSeeded, sizes, takesTruncation } from "./model.js";
import { readSeed, seedRule, SEEDS } from "./requests.js";
import { FROM_SEED, readCodes, writeCodes } from "./state.js";

const WAIT = 200; // ms from the last input to the change
const MOST_CHIPS = 24; // classes; more are shown as a list

export class Controls {
  /** change(patch) receives changed settings, wrong(error or null) an invalid seed. */
  constructor(form, sizes, change, wrong) {
    this.form = form;
    this.sizes = sizes;
    this.parts = Object.fromEntries(
      ["model", "version", "seed", "seed-label", "seed-help", "shuffle", "truncation", "truncation-value", "classes", "class-choices", "codes", "code-choices", "about"].map(
        (name) => [name, form.querySelector(`#${name}`)],
      ),
    );
    this.change = change;
    this.wrong = wrong;
    const later = (constants) => this.#later(() => this.change({ constants }));
    this.constants = new Constants(form.querySelector("#constants"), later, wrong);
    const { model, version, seed, shuffle, truncation } = this.parts;
    form.addEventListener("submit", (event) => event.preventDefault());
    model.addEventListener("change", () => change({ model: model.value, version: null, label: null, codes: null, constants: "", sample: null }));
    version.addEventListener("change", () => change({ version: version.value ? Number(version.value) : null }));
    seed.addEventListener("input", () => this.#later(() => this.#readSeed()));
    seed.addEventListener("change", () => this.#readSeed());
    shuffle.addEventListener("click", () => {
      const [low] = crypto.getRandomValues(new Uint32Array(1));
      seed.value = String(low >>> 1);
      this.#readSeed();
    });
    truncation.addEventListener("input", () => {
      this.#showTruncation(Number(truncation.value));
      this.#later(() => change({ truncation: Number(truncation.value) }));
    });
    sizes.addEventListener("change", (event) => change({ size: event.target.value }));
    this.parts.classes.addEventListener("change", (event) =>
      change({ label: event.target.value === "" ? null : Number(event.target.value) }),
    );
  }

  #later(act) {
    clearTimeout(this.timer);
    this.timer = setTimeout(act, WAIT);
  }

  #readSeed() {
    clearTimeout(this.timer);
    const { seed } = this.parts;
    const value = readSeed(seed.value);
    seed.setAttribute("aria-invalid", String(value === null));
    this.wrong(value === null ? new Error(seedRule(seed.value)) : null);
    if (value !== null) this.change({ seed: value });
  }

  /** Shows the settings; `models` is the server's list, `model` the selected entry or undefined. */
  show(settings, models, model) {
    const { seed, truncation, version } = this.parts;
    fill(this.parts.model, models.map(({ name }) => [name, name]), settings.model);
    const versions = [...(model?.versions ?? [])].sort((a, b) => b - a);
    fill(version, [["", "newest"], ...versions.map((x) => [x, x])], settings.version ?? "");
    if (readSeed(seed.value) !== settings.seed) seed.value = String(settings.seed);
    seed.setAttribute("aria-invalid", "false");
    truncation.max = Math.max(1.5, settings.truncation);
    truncation.value = settings.truncation;
    this.#showTruncation(settings.truncation);
    this.sizes.querySelector(`[value=${settings.size}]`).checked = true;
    if (model) {
      const gallery = isGallery(model);
      this.#offer("seeded", isSeeded(model));
      this.#offer("gallery", gallery && isSeeded(model));
      this.#offer("truncation", gallery && takesTruncation(model));
      this.#offer("walk", gallery && canWalk(model));
      this.parts["seed-label"].textContent = gallery ? "First seed" : "Seed";
      this.parts["seed-help"].textContent = `A seed identifies ${gallery ? "a sample" : "an answer"} on every server.`;
      this.#showClasses(model, settings.label);
      this.#showCodes(model, settings.codes);
      this.constants.show(model, settings.constants);
      this.#showAbout(model);
    }
  }

  /** Shows or hides the parts for models of a property. */
  #offer(property, has) {
    for (const element of this.form.querySelectorAll(`[data-${property}]`)) element.hidden = !has;
  }

  #showTruncation(value) {
    this.parts["truncation-value"].textContent = value.toFixed(2);
  }

  #showClasses({ name, classes }, label) {
    const holder = this.parts["class-choices"];
    this.parts.classes.hidden = !classes.count;
    const key = JSON.stringify([name, classes]);
    if (key !== this.shown) {
      const names = Array.from({ length: classes.count }, (_, id) => [id, classes.names[id] ?? String(id)]);
      const choices = [["", "each seed's own"], ...names];
      holder.replaceChildren(...(choices.length > MOST_CHIPS ? [list(choices)] : choices.map((choice) => chip(choice))));
      this.shown = key;
    }
    const value = String(label ?? "");
    const select = holder.querySelector("select");
    if (select) select.value = value;
    for (const radio of holder.querySelectorAll("input")) radio.checked = radio.value === value;
  }

  #showCodes(model, text) {
    const port = codesOf(model);
    const holder = this.parts["code-choices"];
    this.parts.codes.hidden = !port;
    const key = JSON.stringify([model.name, port]);
    if (key !== this.coded) {
      this.codes = port ? [...port.categorical.map((count) => new Category(count)), ...times(port.continuous, () => new Slider())] : [];
      this.codes.forEach((code, i) => code.show(i));
      holder.replaceChildren(...this.codes.map(({ element }) => element));
      for (const { element } of this.codes) element.addEventListener("code", () => this.#readCodes());
      this.coded = key;
    }
    const given = readCodes(text);
    const fits = given?.length === this.codes.length;
    this.codes.forEach((code, i) => (code.value = fits ? given[i] : FROM_SEED));
  }

  #readCodes() {
    const codes = writeCodes(this.codes.map(({ value }) => value));
    this.#later(() => this.change({ codes }));
  }

  #showAbout(model) {
    const rows = [
      ["Role", model.role],
      ["Kind", model.kind],
      ["Shape", sizes(model.shape)],
      ["Latents", model.latent_dim],
      ["Intended use", model.intended_use],
      ["License", model.license],
      ["Notice", model.notice],
      ["SHA-256", model.sha256?.slice(0, 16)],
    ];
    this.parts.about.replaceChildren(
      ...rows
        .filter(([, value]) => value)
        .flatMap(([name, value]) => {
          const [term, text] = [document.createElement("dt"), document.createElement("dd")];
          term.textContent = name;
          text.textContent = typeof value === "object" ? JSON.stringify(value) : value;
          return [term, text];
        }),
    );
  }
}

const times = (count, make) => Array.from({ length: count }, make);

/** Buttons of a categorical code. Every change dispatches the event "code" on `element`. */
class Category {
  constructor(count) {
    this.count = count;
  }

  show(number) {
    this.element = document.createElement("fieldset");
    this.element.append(Object.assign(document.createElement("legend"), { textContent: `Category ${number + 1}` }));
    const chips = this.element.appendChild(Object.assign(document.createElement("div"), { className: "chips" }));
    const choices = [[FROM_SEED, "seed's own"], ...times(this.count, (_, id) => [id, String(id)])];
    chips.append(...choices.map((choice) => chip(choice, `code-${number}`)));
    this.element.addEventListener("change", () => this.element.dispatchEvent(new Event("code")));
  }

  get value() {
    return Number(this.element.querySelector("input:checked")?.value ?? FROM_SEED);
  }

  set value(value) {
    for (const radio of this.element.querySelectorAll("input")) radio.checked = Number(radio.value) === value;
  }
}

/** Slider of a continuous code; its button returns to the seed's own. */
class Slider {
  show(number) {
    this.element = document.createElement("div");
    this.element.className = "code";
    const name = `Code ${number + 1}`;
    const ends = this.element.appendChild(Object.assign(document.createElement("div"), { className: "ends" }));
    const label = ends.appendChild(Object.assign(document.createElement("label"), { htmlFor: `code-${number}`, textContent: name }));
    this.output = document.createElement("output");
    this.output.htmlFor = label.htmlFor;
    this.own = Object.assign(document.createElement("button"), { type: "button", className: "plain", textContent: "seed's own" });
    this.own.setAttribute("aria-label", `${name}: each seed's own`);
    ends.append(this.output, this.own);
    this.input = Object.assign(document.createElement("input"), { type: "range", id: label.htmlFor, min: -1, max: 1, step: 0.05 });
    this.element.append(this.input);
    this.input.addEventListener("input", () => this.#changed(Number(this.input.value)));
    this.own.addEventListener("click", () => {
      this.input.focus(); // the button disappears
      this.#changed(FROM_SEED);
    });
  }

  #changed(value) {
    this.value = value;
    this.element.dispatchEvent(new Event("code"));
  }

  get value() {
    return this.isOwn ? FROM_SEED : Number(this.input.value);
  }

  set value(value) {
    this.isOwn = value === FROM_SEED;
    this.input.value = this.isOwn ? 0 : value;
    this.output.textContent = this.isOwn ? "each seed's own" : value.toFixed(2);
    this.own.hidden = this.isOwn;
  }
}

function fill(select, options, value) {
  const key = JSON.stringify(options);
  if (select.dataset.options !== key) {
    select.replaceChildren(...options.map(([id, text]) => new Option(text, id)));
    select.dataset.options = key;
  }
  select.value = String(value ?? "");
  if (select.selectedIndex < 0) {
    // The address may name a value that the server does not have.
    select.append(new Option(`${value} (not served)`, value, true, true));
    delete select.dataset.options;
  }
  select.disabled = select.options.length < 2;
}

function chip([id, text], name = "class") {
  const label = document.createElement("label");
  const input = label.appendChild(document.createElement("input"));
  Object.assign(input, { type: "radio", name, value: String(id) });
  label.appendChild(document.createElement("span")).textContent = text;
  return label;
}

function list(choices) {
  const select = document.createElement("select");
  select.setAttribute("aria-label", "Class");
  select.append(...choices.map(([id, text]) => new Option(text, id)));
  return select;
}
