// What is going on, for the ear and, if asked, for the eye.
const status = document.getElementById("status");
const toast = document.getElementById("toast");
let hide;

export function say(text, { seen = false } = {}) {
  // A dialog makes all else inert, live regions too: they move into it.
  const place = document.querySelector("dialog[open]") ?? document.body;
  if (status.parentElement !== place) place.append(status, toast);
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
