// A policy or a reward: the numbers of an observation as a form; the action, or the reward, as the answer.
import { actCurl, actPython } from "./requests.js";
import { say } from "./say.js";
import { showLines } from "./take.js";

const WAIT = 200; // ms from the last input to the request
const MOST_FIELDS = 64; // numbers with a field each; more are written into one field
const MOST_BARS = 20;

/** Section of models that act; it has the interface of `PictureUser` for the page. */
export class Actor {
  /** root: the element. on: {error(error or null)}. */
  constructor(root, api, base, on) {
    Object.assign(this, { root, api, base, on });
    const names = ["facts", "fields", "action", "result", "bars", "answer", "lines", "how"];
    this.parts = Object.fromEntries(names.map((name) => [name, root.querySelector(`#act-${name}`)]));
    root.addEventListener("input", () => {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.#send(), WAIT);
    });
  }

  /** Shows the form of a model, and its answer to an observation of zeros; `view` has its name and version. */
  show(model, view) {
    const key = JSON.stringify([view.model, view.version]);
    const changed = key !== this.key;
    Object.assign(this, { key, model, view });
    if (!changed) return;
    this.observation = model.inputs.find(({ name }) => name === "observation");
    this.given = model.inputs.find(({ name }) => name === "action"); // of a reward
    const size = this.observation.shape.slice(1).reduce((a, b) => a * b, 1);
    const bounds = boundsOf(model.policy?.environment.observation, size);
    const labels = Array.from({ length: size }, (_, i) => `Observation ${i}${bounds[i]}`);
    this.parts.fields.replaceChildren(
      ...(size > MOST_FIELDS ? [field(`Observation: ${size} numbers, separated by commas`, Array(size).fill(0).join(", "))] : labels.map((label) => field(label, "0"))),
    );
    this.parts.action.replaceChildren(...(this.given ? actionFields(this.given) : []));
    this.#showFacts();
    this.#send();
  }

  hide() {
    clearTimeout(this.timer);
    this.abort?.abort();
    this.root.setAttribute("aria-busy", "false");
    this.key = null;
  }

  /** Returns the line of a kind, "curl" or "python", that sends the shown observation. */
  line(kind) {
    const make = kind === "curl" ? actCurl : actPython;
    const version = this.view.version ?? this.model.version;
    return make(this.base, { model: this.model.name, version, ...this.#values() }, this.api.hasToken);
  }

  #showFacts() {
    const { model, parts } = this;
    const environment = model.policy?.environment;
    parts.facts.textContent = environment
      ? `${environment.id ?? "An environment"}: ${spaceOf(environment.action)}, chosen by ${model.outputs.slice(1).map(({ name }) => name).join(" and ") || "the network"}`
      : "A reward for an observation and an action";
    parts.how.hidden = !environment;
  }

  /** Returns the numbers of the form; those that are missing or no numbers are NaN. */
  #values() {
    const numbers = (holder) =>
      [...holder.querySelectorAll("input, select")].flatMap(({ value }) => value.split(",").map((x) => (x.trim() ? Number(x) : NaN)));
    const observation = folded(numbers(this.parts.fields), this.observation.shape.slice(1));
    if (!this.given) return { observation };
    const action = numbers(this.parts.action);
    return { observation, action: this.given.shape.length > 1 ? action : action[0] };
  }

  async #send() {
    this.abort?.abort();
    this.abort = new AbortController();
    const { signal } = this.abort;
    const { observation, action } = this.#values();
    this.#mark();
    if ([observation, action ?? 0].flat(Infinity).some((x) => !Number.isFinite(x))) {
      this.parts.result.hidden = true;
      this.root.setAttribute("aria-busy", "false"); // of a request that was aborted
      return this.on.error(new Error("An observation and an action must be numbers. Received: a field without one"));
    }
    this.root.setAttribute("aria-busy", "true");
    this.on.error(null);
    try {
      const { model, version } = this.view;
      const named = version === null ? { model } : { model, version };
      const found = this.given
        ? (await this.api.samples({ ...named, inputs: { observation, action }, format: "json" }, signal))[0]
        : await this.api.act({ ...named, observation }, signal);
      if (!signal.aborted) this.#show(found);
    } catch (error) {
      if (signal.aborted) return;
      this.parts.result.hidden = true;
      this.on.error(error);
    } finally {
      if (!signal.aborted) this.root.setAttribute("aria-busy", "false");
    }
  }

  /** Marks the fields that hold no number. */
  #mark() {
    for (const input of this.root.querySelectorAll("input")) {
      const wrong = input.value.split(",").some((x) => !x.trim() || !Number.isFinite(Number(x)));
      input.setAttribute("aria-invalid", String(wrong));
    }
  }

  #show(found) {
    const { parts } = this;
    const text = this.given ? `Reward ${plain(found.values)}` : `Action ${[found.action].flat().map(plain).join(", ")}`;
    parts.answer.textContent = text;
    const logits = found.logits?.slice(0, MOST_BARS) ?? [];
    parts.bars.hidden = !logits.length;
    parts.bars.replaceChildren(...softmax(found.logits ?? []).slice(0, MOST_BARS).map((p, i) => bar(`Action ${i}`, p)));
    parts.result.hidden = false;
    showLines(parts.lines, [
      ["curl", "the curl line", this.line("curl")],
      ["Python", "the Python line", this.line("python")],
    ]);
    say(text);
  }
}

/** Returns the bounds of each number of an observation as text, empty for none. */
function boundsOf(space, size) {
  const of = (bound) => (Array.isArray(bound) ? bound : Array(size).fill(bound ?? null));
  const [low, high] = [of(space?.low), of(space?.high)];
  return low.map((a, i) => (a === null || high[i] === null ? "" : `, from ${plain(a)} to ${plain(high[i])}`));
}

function spaceOf({ n, low, high }) {
  if (n) return `one of ${n} actions`;
  const limits = low.map((a, i) => `${a ?? "no bound"} to ${high[i] ?? "no bound"}`);
  return `an action of ${low.length} ${low.length === 1 ? "number" : "numbers"}, ${[...new Set(limits)].join("; ")}`;
}

function field(label, value) {
  const row = document.createElement("label");
  row.className = "field";
  row.appendChild(document.createElement("span")).textContent = label;
  const input = row.appendChild(document.createElement("input"));
  Object.assign(input, { type: "text", value, inputMode: "decimal", spellcheck: false });
  return row;
}

function actionFields({ shape, meta }) {
  if (shape.length > 1) return Array.from({ length: shape[1] }, (_, i) => field(`Action ${i}`, "0"));
  const row = document.createElement("label");
  row.className = "field";
  row.appendChild(document.createElement("span")).textContent = "Action";
  const select = row.appendChild(document.createElement("select"));
  for (let i = 0; i < meta.num_classes; i++) select.add(new Option(String(i), String(i)));
  return [row];
}

/** Returns numbers nested in lists by the sizes of a shape. */
function folded(numbers, [first, ...rest]) {
  if (!rest.length) return numbers;
  const size = rest.reduce((a, b) => a * b, 1);
  return Array.from({ length: first }, (_, i) => folded(numbers.slice(i * size, (i + 1) * size), rest));
}

function softmax(logits) {
  const largest = Math.max(...logits);
  const exponents = logits.map((x) => Math.exp(x - largest));
  const sum = exponents.reduce((a, b) => a + b, 0);
  return exponents.map((x) => x / sum);
}

const plain = (number) => String(Number(number.toPrecision(6)));

function bar(name, probability) {
  const row = document.createElement("li");
  row.appendChild(document.createElement("span")).textContent = name;
  row.appendChild(document.createElement("span")).textContent = `${(100 * probability).toFixed(1)} %`;
  const track = row.appendChild(document.createElement("div"));
  track.className = "track";
  track.setAttribute("aria-hidden", "true");
  track.appendChild(document.createElement("div")).style.width = `${100 * probability}%`;
  return row;
}
