// Status messages: for screen readers, and optionally visible.
const status = document.getElementById("status");
const toast = document.getElementById("toast");
const banner = document.getElementById("banner");
let hide;

// A modal dialog makes everything outside it inert, live regions too: they move into the dialog.
const place = () => document.querySelector("dialog[open]") ?? document.body;
const move = () => status.parentElement !== place() && place().append(status, toast, banner);
document.addEventListener("close", move, true);

export function say(text, { seen = false } = {}) {
  move();
  status.textContent = text;
  if (!seen) return;
  toast.textContent = text;
  toast.classList.add("on");
  clearTimeout(hide);
  hide = setTimeout(() => toast.classList.remove("on"), 1800);
}

/** Shows the line of an error in an element, or hides it. */
export function complain(element, error) {
  element.hidden = !error;
  (element.querySelector("p") ?? element).textContent = error ? error.message : "";
}

/** Shows a bar that stays until it is called with null. */
export function showBanner(text) {
  move();
  if (text && banner.hidden) say(text);
  banner.hidden = !text;
  if (text) document.getElementById("banner-text").textContent = text;
}
