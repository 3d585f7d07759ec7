// Endless wall of samples: only rows near the viewport are in the document.
// Two spacers replace the others; when one nears the viewport, the rows are updated.

const GAP = 4; // as in style.css
const NEAR = 500; // px beyond the viewport within which rows are kept
const BATCH = 16; // samples of a request
const CONCURRENT = 3; // requests
const MOST_ROWS = 200_000; // browsers limit a page to about 30 million pixels
const KEPT = 4000; // samples
const KEPT_BYTES = 64 * 2 ** 20;

export class Wall {
  /**
   * root: the element. on: {open(index), mark(index), copy(index), error(error), ready(count)}.
   */
  constructor(root, on) {
    this.root = root;
    this.on = on;
    this.rows = new Map(); // row number -> element
    this.spare = [];
    this.samples = new Map(); // index -> sample
    this.bytes = 0;
    this.current = 0; // the tile that Tab reaches
    this.reached = 0;
    this.above = document.createElement("div");
    this.below = document.createElement("div");
    this.grid = document.createElement("div");
    this.grid.className = "grid";
    this.grid.role = "grid";
    this.grid.tabIndex = -1;
    this.grid.setAttribute("aria-label", "Samples: arrow keys move, Enter opens, W marks for a walk, P plays");
    this.grid.setAttribute("aria-rowcount", "-1");
    root.replaceChildren(this.above, this.grid, this.below);
    const observer = new IntersectionObserver(() => this.lay(), { rootMargin: `${NEAR}px 0px` });
    observer.observe(this.above);
    observer.observe(this.below);
    new ResizeObserver(() => this.#resize()).observe(root);
    this.grid.addEventListener("click", (event) => this.#click(event));
    this.grid.addEventListener("keydown", (event) => this.#key(event));
    this.grid.addEventListener("focusin", (event) => {
      const tile = event.target.closest(".tile");
      if (tile) this.#setCurrent(Number(tile.dataset.index));
    });
  }

  /**
   * Shows other samples: view = {width, even, ratio, count, load(indices, signal), face(sample),
   * name(index), tag(index)}; `fresh` removes the old ones, else they stay until replaced.
   */
  show(view, { fresh = false } = {}) {
    this.abort?.abort();
    this.abort = new AbortController();
    this.view = view;
    this.samples.clear();
    this.bytes = 0;
    this.loading = new Set();
    this.failed = false;
    this.announced = false;
    if (fresh) {
      this.current = 0;
      this.reached = 0;
    }
    this.#measure();
    if (fresh || !this.#fits()) return this.#rebuild();
    for (const tile of this.grid.querySelectorAll(".tile")) {
      tile.classList.toggle("stale", tile.childElementCount > 0);
      tile.setAttribute("aria-busy", "true");
      tile.parentElement.hidden = Number(tile.dataset.index) >= view.count;
      this.#dress(tile);
    }
    this.lay();
  }

  /** Returns a sample if it is loaded, so that the dialog need not request it. */
  sample(index) {
    return this.samples.get(index);
  }

  hide() {
    this.abort?.abort();
    this.view = null;
    this.grid.replaceChildren();
    this.rows.clear();
  }

  mark(index) {
    this.marked = index;
    for (const tile of this.grid.querySelectorAll(".tile")) this.#dress(tile);
  }

  /** Moves the focus to a tile, in the document or not. */
  focus(index) {
    if (!this.view) return;
    index = Math.max(0, Math.min(index, this.view.count - 1));
    const row = Math.floor(index / this.columns);
    if (!this.rows.has(row)) {
      const top = this.root.getBoundingClientRect().top + scrollY + row * this.height;
      scrollTo({ top: Math.max(0, top - innerHeight / 2), behavior: "instant" });
      this.lay();
    }
    this.#setCurrent(index);
    this.#tile(index)?.focus({ preventScroll: true });
    this.#tile(index)?.scrollIntoView({ block: "nearest", behavior: "instant" });
  }

  #resize() {
    if (!this.view || this.root.clientWidth === this.room) return;
    const first = this.columns ? this.#firstSeen() : 0;
    this.#measure();
    if (!this.#fits()) this.#rebuild(first);
  }

  #measure() {
    const { even, width, ratio } = this.view;
    this.room = this.root.clientWidth;
    this.columns = Math.max(1, Math.floor((this.room + GAP) / ((even ?? width) + GAP)));
    const widest = Math.floor((this.room - GAP * (this.columns - 1)) / this.columns);
    this.width = Math.max(1, even ? Math.min(even, this.room) : widest);
    this.tall = Math.max(1, Math.round(this.width * ratio));
    this.height = this.tall + GAP;
    this.grid.setAttribute("aria-colcount", this.columns);
  }

  /** Checks that the existing rows have the current dimensions. */
  #fits() {
    const row = this.rows.values().next().value;
    return row?.dataset.measures === this.#measures();
  }

  #measures() {
    return `${this.columns} ${this.width} ${this.tall}`;
  }

  /** Rebuilds all rows; the first visible sample keeps its place. */
  #rebuild(first = 0) {
    this.root.style.minHeight = `${this.root.offsetHeight}px`; // otherwise the page would shrink and scroll
    for (const row of this.rows.values()) this.#retire(row);
    this.rows.clear();
    const row = Math.floor(first / this.columns);
    if (row > 0) {
      const top = this.root.getBoundingClientRect().top + scrollY;
      this.reached = Math.max(this.reached, row + 1);
      this.above.style.height = `${this.reached * this.height + innerHeight}px`;
      scrollTo({ top: top + row * this.height, behavior: "instant" });
    }
    this.lay();
    this.root.style.minHeight = "";
  }

  /** Returns the visible part of the wall, in pixels from its top. */
  #seen() {
    const top = this.root.getBoundingClientRect().top;
    return { from: -top, to: innerHeight - top };
  }

  #firstSeen() {
    return Math.max(0, Math.floor(this.#seen().from / this.height)) * this.columns;
  }

  /** Adds the rows near the viewport to the document and removes the others. */
  lay() {
    if (!this.view || !this.room) return;
    const margin = NEAR + innerHeight;
    const { from, to } = this.#seen();
    const all = Math.min(MOST_ROWS, Math.ceil(this.view.count / this.columns));
    const first = Math.min(all, Math.max(0, Math.floor((from - margin) / this.height)));
    const last = Math.min(all, Math.max(first, Math.ceil((to + margin) / this.height)));
    this.#keepFocus(first, last);
    for (const [number, row] of this.rows) {
      if (number >= first && number < last) continue;
      this.#retire(row);
      this.rows.delete(number);
    }
    let before = null;
    for (let number = last - 1; number >= first; number--) {
      let row = this.rows.get(number);
      if (!row) {
        row = this.#row(number);
        this.rows.set(number, row);
        this.grid.insertBefore(row, before);
      }
      before = row;
    }
    this.reached = Math.min(all, Math.max(this.reached, last + Math.ceil(innerHeight / this.height)));
    this.above.style.height = `${first * this.height}px`;
    this.below.style.height = `${Math.max(0, this.reached - last) * this.height}px`;
    this.#setCurrent(this.current);
    this.#load();
  }

  /** Keeps the focus on the wall when the focused tile is removed. */
  #keepFocus(first, last) {
    const tile = this.grid.contains(document.activeElement) && document.activeElement.dataset.index;
    if (!tile) return;
    const row = Math.floor(Number(tile) / this.columns);
    if (row < first || row >= last) this.grid.focus({ preventScroll: true });
  }

  #retire(row) {
    if (row.contains(document.activeElement)) this.grid.focus({ preventScroll: true });
    row.remove();
    for (const tile of row.querySelectorAll(".tile")) tile.replaceChildren();
    if (row.childElementCount === this.columns) this.spare.push(row);
  }

  #row(number) {
    let row = this.spare.pop();
    if (row?.childElementCount !== this.columns) row = this.#newRow();
    row.style.gridTemplateColumns = `repeat(${this.columns}, ${this.width}px)`;
    row.style.gridAutoRows = `${this.tall}px`;
    row.dataset.measures = this.#measures();
    row.setAttribute("aria-rowindex", number + 1);
    [...row.children].forEach((cell, column) => {
      const index = number * this.columns + column;
      const tile = cell.firstElementChild;
      cell.hidden = index >= this.view.count;
      tile.dataset.index = index;
      tile.classList.remove("stale");
      tile.replaceChildren();
      this.#fill(tile, index);
    });
    return row;
  }

  #newRow() {
    const row = document.createElement("div");
    row.role = "row";
    row.className = "grid-row";
    for (let column = 0; column < this.columns; column++) {
      const cell = row.appendChild(document.createElement("div"));
      cell.role = "gridcell";
      const tile = cell.appendChild(document.createElement("button"));
      tile.type = "button";
      tile.className = "tile";
      tile.tabIndex = -1;
    }
    return row;
  }

  #fill(tile, index) {
    const sample = this.samples.get(index);
    if (sample) {
      const tag = document.createElement("span");
      tag.className = "tag";
      tag.textContent = this.view.tag(index);
      tag.setAttribute("aria-hidden", "true");
      tile.replaceChildren(this.view.face(sample), tag);
      tile.classList.remove("stale");
    }
    tile.setAttribute("aria-busy", String(!sample));
    this.#dress(tile);
  }

  #dress(tile) {
    const index = Number(tile.dataset.index);
    const marked = index === this.marked;
    tile.classList.toggle("marked", marked);
    tile.setAttribute("aria-label", this.view.name(index) + (marked ? ", start of the walk" : ""));
  }

  #tile(index) {
    return this.rows.get(Math.floor(index / this.columns))?.children[index % this.columns]?.firstElementChild;
  }

  #setCurrent(index) {
    this.stop?.setAttribute("tabindex", "-1");
    if (this.grid.contains(document.activeElement) || this.#tile(index)) this.current = index;
    // Tab must reach the wall at any scroll position.
    this.stop = this.#tile(index) ?? this.#tile(this.#firstSeen()) ?? null;
    this.stop?.setAttribute("tabindex", "0");
  }

  /** Requests missing samples near the viewport, from its top, a few requests concurrently. */
  #load() {
    if (this.failed || !this.rows.size) return;
    const numbers = [...this.rows.keys()];
    const first = Math.min(...numbers) * this.columns;
    const last = Math.min(this.view.count, (Math.max(...numbers) + 1) * this.columns);
    const top = this.#firstSeen() / BATCH;
    const missing = [];
    for (let batch = Math.floor(first / BATCH); batch * BATCH < last; batch++)
      if (!this.samples.has(batch * BATCH) && !this.loading.has(batch)) missing.push(batch);
    const away = (batch) => (batch + 1 > top ? batch - top : 100 * (top - batch)); // rows above the viewport come last
    missing.sort((a, b) => away(a) - away(b));
    while (this.loading.size < CONCURRENT && missing.length) this.#ask(missing.shift());
  }

  async #ask(batch) {
    const { view, loading } = this;
    const { signal } = this.abort;
    const start = batch * BATCH;
    const indices = Array.from({ length: Math.min(BATCH, view.count - start) }, (_, i) => start + i);
    loading.add(batch);
    try {
      const samples = await view.load(indices, signal);
      if (view !== this.view || signal.aborted) return;
      samples.forEach((sample, i) => this.#keep(start + i, sample));
      for (const index of indices) {
        const tile = this.#tile(index);
        if (tile) this.#fill(tile, index);
      }
      if (!this.announced) this.on.ready(samples[0]);
      this.announced = true;
    } catch (error) {
      if (signal.aborted || view !== this.view) return;
      this.failed = true;
      this.on.error(error);
    } finally {
      loading.delete(batch);
      if (view === this.view && !signal.aborted) this.#load();
    }
  }

  #keep(index, sample) {
    this.samples.set(index, sample);
    this.bytes += sizeOf(sample);
    const oldest = this.samples.keys();
    while (this.samples.size > KEPT || this.bytes > KEPT_BYTES) {
      const { value, done } = oldest.next();
      if (done) return;
      // Remove whole batches, as #load checks only the first sample of each.
      const batch = Math.floor(value / BATCH);
      if (this.rows.has(Math.floor(value / this.columns)) || batch === Math.floor(index / BATCH)) continue;
      for (let i = batch * BATCH; i < (batch + 1) * BATCH; i++) {
        if (this.samples.has(i)) this.bytes -= sizeOf(this.samples.get(i));
        this.samples.delete(i);
      }
    }
  }

  #click(event) {
    const tile = event.target.closest(".tile");
    if (!tile) return;
    const index = Number(tile.dataset.index);
    this.#setCurrent(index);
    this.on.open(index);
  }

  #key(event) {
    if (event.altKey || event.metaKey) return;
    const at = this.current;
    const screenful = Math.max(1, Math.floor(innerHeight / this.height) - 1) * this.columns;
    const moves = {
      ArrowRight: at + 1,
      ArrowLeft: at - 1,
      ArrowDown: at + this.columns,
      ArrowUp: at - this.columns,
      Home: event.ctrlKey ? 0 : at - (at % this.columns),
      End: at - (at % this.columns) + this.columns - 1,
      PageDown: at + screenful,
      PageUp: at - screenful,
    };
    if (event.key in moves) {
      event.preventDefault();
      const to = moves[event.key];
      if (to >= 0) this.focus(to);
      else if (event.key === "PageUp") this.focus(at % this.columns);
    } else if (event.ctrlKey) {
      return;
    } else if (event.key === "w" || event.key === "W") {
      this.on.mark(at);
    } else if (event.key === "c" || event.key === "C") {
      this.on.copy(at);
    }
  }
}

const sizeOf = (sample) => sample.png?.length ?? sample.frames?.pixels.length ?? 8 * count(sample.values);
const count = (values) => (Array.isArray(values) ? values.length * count(values[0]) : 1);
