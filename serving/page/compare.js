// Comparison of two pictures of one place: a divider shows one on its left, the other on its right.
// Pixels are never smoothed: a pixel of the answer is a square of 1 or 4 CSS pixels.

const STEP = 0.02; // of the visible width, for an arrow key
const LEAP = 0.1;

export class Compare {
  /** root has .compare-scroll > .compare-stage > two canvases, and an element of role slider. */
  constructor(root) {
    this.root = root;
    this.scroll = root.querySelector(".compare-scroll");
    this.stage = root.querySelector(".compare-stage");
    [this.before, this.after] = root.querySelectorAll("canvas");
    this.slider = root.querySelector("[role=slider]");
    this.share = 0.5; // of the visible width that is on the left of the divider
    this.zoom = 1;
    this.scroll.addEventListener("scroll", () => this.#lay());
    new ResizeObserver(() => this.#lay()).observe(this.scroll);
    this.slider.addEventListener("keydown", (event) => this.#key(event));
    this.slider.addEventListener("pointerdown", (event) => this.#grab(event));
  }

  /** Shows pictures, as sources for drawImage; that of the left is enlarged to the right one. */
  show(left, right, words) {
    this.words = words;
    this.#setAlone(false);
    this.scroll.setAttribute("aria-label", "Input on the left, translation on the right");
    draw(this.before, left);
    draw(this.after, right);
    this.#size();
  }

  /** Shows one picture, without a divider; word: its name. */
  showAlone(picture, word) {
    this.words = null;
    draw(this.after, picture);
    this.#setAlone(true);
    this.scroll.setAttribute("aria-label", word);
    this.#size();
  }

  #setAlone(alone) {
    this.isAlone = this.before.hidden = this.slider.hidden = alone;
  }

  /** Replaces the picture of the left, and its name. */
  showLeft(left, words) {
    this.words = words;
    draw(this.before, left);
    this.#lay();
  }

  /** Shows a pixel of the right picture as a square of this many CSS pixels. */
  setZoom(zoom) {
    const { scrollLeft, scrollTop, clientWidth, clientHeight } = this.scroll;
    const grown = zoom / this.zoom;
    const [x, y] = [(scrollLeft + clientWidth / 2) * grown, (scrollTop + clientHeight / 2) * grown];
    this.zoom = zoom;
    this.#size();
    this.scroll.scrollTo(x - this.scroll.clientWidth / 2, y - this.scroll.clientHeight / 2); // the center stays
    this.#lay();
  }

  #size() {
    this.stage.style.width = `${this.after.width * this.zoom}px`;
    this.stage.style.height = `${this.after.height * this.zoom}px`;
    this.#lay();
  }

  /** Moves the divider; share: 0 for the left end of the visible part, 1 for the right one. */
  move(share) {
    this.share = Math.min(1, Math.max(0, share));
    this.#lay();
  }

  /** Returns the ends of the visible part of the picture, in pixels from the left of the root. */
  #ends() {
    const start = this.stage.offsetLeft - this.scroll.scrollLeft;
    return [Math.max(0, start), Math.min(this.scroll.clientWidth, start + this.stage.offsetWidth)];
  }

  #lay() {
    if (this.isAlone) return void (this.after.style.clipPath = "none");
    const [first, last] = this.#ends();
    const x = first + this.share * (last - first);
    const cut = x - this.stage.offsetLeft + this.scroll.scrollLeft;
    this.after.style.clipPath = `inset(0 0 0 ${Math.max(0, cut)}px)`;
    this.before.style.clipPath = `inset(0 ${Math.max(0, this.stage.offsetWidth - cut)}px 0 0)`;
    this.slider.style.left = `${x}px`;
    this.slider.style.height = `${Math.min(this.scroll.clientHeight, this.stage.offsetHeight)}px`;
    const percent = Math.round(100 * this.share);
    this.slider.setAttribute("aria-valuenow", percent);
    if (this.words) this.slider.setAttribute("aria-valuetext", `${percent}% ${this.words[0]}, ${100 - percent}% ${this.words[1]}`);
  }

  #key(event) {
    if (event.altKey || event.metaKey || event.ctrlKey) return;
    const to = {
      ArrowRight: this.share + STEP,
      ArrowUp: this.share + STEP,
      ArrowLeft: this.share - STEP,
      ArrowDown: this.share - STEP,
      PageUp: this.share + LEAP,
      PageDown: this.share - LEAP,
      Home: 0,
      End: 1,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.move(to);
  }

  #grab(event) {
    if (event.button) return;
    event.preventDefault();
    this.slider.focus({ preventScroll: true });
    this.slider.setPointerCapture(event.pointerId);
    const follow = ({ clientX }) => {
      const [first, last] = this.#ends();
      this.move((clientX - this.scroll.getBoundingClientRect().left - first) / Math.max(1, last - first));
    };
    this.slider.addEventListener("pointermove", follow);
    this.slider.addEventListener("lostpointercapture", () => this.slider.removeEventListener("pointermove", follow), { once: true });
  }
}

function draw(canvas, source) {
  canvas.width = source.width;
  canvas.height = source.height;
  canvas.getContext("2d").drawImage(source, 0, 0);
}
