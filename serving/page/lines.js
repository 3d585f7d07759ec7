// Samples that are texts: one below the other, each with its seed and a button that copies it.
import { copyButton, paragraph, textOf, toLine } from "./text.js";
import { copy, icon } from "./take.js";

const BATCH = 16; // samples of a request
const NEAR = 500; // px below the viewport within which more are loaded
const MOST = 512; // texts in the document; the next ones start a new list

export class Lines {
  /** on: {open(index), mark(index), copy(index), start(index), error(error), ready(sample)}. */
  constructor(root, on) {
    Object.assign(this, { root, on, samples: [], current: 0 });
    const bar = document.createElement("div");
    bar.className = "row";
    this.copyAll = bar.appendChild(copyButton(() => this.#all(), "all texts, one on each line", "Copy all"));
    this.facts = bar.appendChild(document.createElement("span"));
    this.facts.className = "facts";
    this.list = document.createElement("ol");
    this.list.className = "texts";
    this.list.tabIndex = -1;
    this.list.setAttribute("aria-label", "Texts: arrow keys move, Enter opens, W marks for a walk");
    this.more = document.createElement("button");
    this.more.type = "button";
    this.more.addEventListener("click", () => this.on.start(this.samples.length));
    this.end = document.createElement("div");
    root.replaceChildren(bar, this.list, this.more, this.end);
    this.observer = new IntersectionObserver(() => this.#load(), { rootMargin: `${NEAR}px 0px` });
    this.observer.observe(this.end);
    this.list.addEventListener("keydown", (event) => this.#key(event));
    this.list.addEventListener("focusin", (event) => {
      const row = event.target.closest("li");
      if (row) this.#setCurrent([...this.list.children].indexOf(row));
    });
  }

  /** view: {model, count, load(indices, signal), name(index), tag(index)}; the old texts stay until replaced. */
  show(view, { fresh = false } = {}) {
    this.abort?.abort();
    this.abort = new AbortController();
    Object.assign(this, { view, samples: [], busy: false, failed: false });
    this.more.hidden = true;
    this.copyAll.disabled = true;
    if (fresh) this.list.replaceChildren();
    for (const button of this.list.querySelectorAll("[data-index]")) button.setAttribute("aria-busy", "true");
    this.list.classList.add("stale");
    this.#load();
  }

  hide() {
    this.abort?.abort();
    this.view = null;
  }

  /** Returns a sample if it is loaded, so that the dialog need not request it. */
  sample(index) {
    return this.samples[index];
  }

  mark(index) {
    this.marked = index;
    [...this.list.children].forEach((row, i) => this.#dress(row, i));
  }

  focus(index) {
    const row = this.list.children[Math.max(0, Math.min(index, this.list.childElementCount - 1))];
    (row?.querySelector("[data-index]") ?? this.list).focus();
  }

  /** Returns all loaded texts as lines, as a .txt file of them has them. */
  #all() {
    return this.samples.map((sample) => toLine(textOf(this.view.model, sample))).join("\n");
  }

  /** Loads batches until the list reaches beyond the viewport. */
  async #load() {
    if (!this.view || this.busy || this.failed) return;
    const { view, abort } = this;
    const before = this.samples.length;
    this.busy = true;
    try {
      // The first batch replaces the old texts, which may reach beyond the viewport.
      const isNear = () => !this.samples.length || this.end.getBoundingClientRect().top < innerHeight + NEAR;
      while (this.samples.length < Math.min(view.count, MOST) && isNear()) {
        const first = this.samples.length;
        const length = Math.min(BATCH, view.count - first, MOST - first);
        const found = await view.load(Array.from({ length }, (_, i) => first + i), abort.signal);
        if (abort.signal.aborted) return;
        if (!first) this.#replace();
        this.samples.push(...found);
        this.list.append(...found.map((sample, i) => this.#row(sample, first + i)));
        this.#setCurrent(this.current);
        this.#describe();
        if (!first) this.on.ready(found[0]);
      }
    } catch (error) {
      if (abort.signal.aborted) return;
      this.failed = true;
      this.on.error(error);
    } finally {
      if (!abort.signal.aborted) this.busy = false;
      if (this.samples.length > before) this.#observe();
    }
  }

  /** Looks once more: the end may have left the viewport and come back between two looks of the observer. */
  #observe() {
    this.observer.unobserve(this.end);
    this.observer.observe(this.end);
  }

  /** Removes the old texts; the focus stays in the list. */
  #replace() {
    const had = this.list.contains(document.activeElement);
    this.list.replaceChildren();
    this.list.classList.remove("stale");
    if (had) this.list.focus({ preventScroll: true });
  }

  #describe() {
    const { length } = this.samples;
    this.copyAll.disabled = false;
    this.facts.textContent = `${length} ${length === 1 ? "text" : "texts"}`;
    this.more.hidden = length < MOST || length >= this.view.count;
    this.more.textContent = `Continue after ${length} texts`;
  }

  #row(sample, index) {
    const row = document.createElement("li");
    const open = row.appendChild(document.createElement("button"));
    open.type = "button";
    open.className = "plain seed";
    open.dataset.index = index;
    open.textContent = this.view.tag(index);
    open.setAttribute("aria-busy", "false");
    open.tabIndex = -1;
    open.addEventListener("click", () => this.on.open(index));
    const text = textOf(this.view.model, sample);
    row.append(paragraph(text));
    const take = row.appendChild(document.createElement("button"));
    take.type = "button";
    take.className = "plain square";
    take.tabIndex = -1;
    take.setAttribute("aria-label", `Copy the text of the ${this.view.name(index)}`);
    take.append(icon("copy"));
    take.addEventListener("click", () => copy(text, "the text"));
    this.#dress(row, index);
    return row;
  }

  #dress(row, index) {
    const marked = index === this.marked;
    row.classList.toggle("marked", marked);
    row.querySelector("[data-index]").setAttribute("aria-label", this.view.name(index) + (marked ? ", start of the walk" : ""));
  }

  /** Makes the buttons of one text those that Tab reaches. */
  #setCurrent(index) {
    const rows = this.list.children;
    for (const button of rows[this.current]?.querySelectorAll("button") ?? []) button.tabIndex = -1;
    this.current = Math.max(0, Math.min(index, rows.length - 1));
    for (const button of rows[this.current]?.querySelectorAll("button") ?? []) button.tabIndex = 0;
  }

  #key(event) {
    if (event.altKey || event.metaKey || event.ctrlKey) return;
    const at = this.current;
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: this.samples.length - 1 }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      this.focus(to);
    } else if (event.key.toLowerCase() === "w") {
      this.on.mark(at);
    } else if (event.key.toLowerCase() === "c") {
      this.on.copy(at);
    }
  }
}
