// Form of the settings: shows them and reports changes by the user.
import { canWalk, isSeeded, sizes, takesTruncation } from "./model.js";
import { readSeed, seedRule, SEEDS } from "./requests.js";

const WAIT = 200; // ms from the last input to the change
const MOST_CHIPS = 24; // classes; more are shown as a list

export class Controls {
  /** change(patch) receives changed settings, wrong(error or null) an invalid seed. */
  constructor(form, sizes, change, wrong) {
    this.form = form;
    this.sizes = sizes;
    this.parts = Object.fromEntries(
      ["model", "version", "seed", "shuffle", "truncation", "truncation-value", "classes", "class-choices", "about"].map(
        (name) => [name, form.querySelector(`#${name}`)],
      ),
    );
    this.change = change;
    this.wrong = wrong;
    const { model, version, seed, shuffle, truncation } = this.parts;
    form.addEventListener("submit", (event) => event.preventDefault());
    model.addEventListener("change", () => change({ model: model.value, version: null, label: null, sample: null }));
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
      for (const element of this.form.querySelectorAll("[data-seeded]")) element.hidden = !isSeeded(model);
      for (const element of this.form.querySelectorAll("[data-truncation]")) element.hidden = !takesTruncation(model);
      for (const element of this.form.querySelectorAll("[data-walk]")) element.hidden = !canWalk(model);
      this.#showClasses(model, settings.label);
      this.#showAbout(model);
    }
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
      holder.replaceChildren(...(choices.length > MOST_CHIPS ? [list(choices)] : choices.map(chip)));
      this.shown = key;
    }
    const value = String(label ?? "");
    const select = holder.querySelector("select");
    if (select) select.value = value;
    for (const radio of holder.querySelectorAll("input")) radio.checked = radio.value === value;
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

function chip([id, text]) {
  const label = document.createElement("label");
  const input = label.appendChild(document.createElement("input"));
  Object.assign(input, { type: "radio", name: "class", value: String(id) });
  label.appendChild(document.createElement("span")).textContent = text;
  return label;
}

function list(choices) {
  const select = document.createElement("select");
  select.setAttribute("aria-label", "Class");
  select.append(...choices.map(([id, text]) => new Option(text, id)));
  return select;
}
