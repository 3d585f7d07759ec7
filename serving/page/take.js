// Clipboard and downloads.
import { say } from "./say.js";

export async function copy(text, name) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    copyByHand(text); // browsers offer no clipboard on http pages of another machine
  }
  say(`Copied ${name}`, { seen: true });
}

function copyByHand(text) {
  const field = document.createElement("textarea");
  field.value = text;
  field.className = "unseen";
  // Must be inside the open dialog, as everything else is inert.
  (document.querySelector("dialog[open]") ?? document.body).append(field);
  const before = document.activeElement;
  field.select();
  document.execCommand("copy");
  field.remove();
  before?.focus();
}

export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  say(`Saved ${name}`, { seen: true });
}

/** Shows lines with a copy button; rows: [name, description for the button, text]. */
export function showLines(holder, rows) {
  holder.replaceChildren(
    ...rows.map(([name, what, text]) => {
      const row = document.createElement("div");
      row.className = "line";
      row.dataset.line = name.toLowerCase();
      const title = row.appendChild(document.createElement("span"));
      title.className = "name";
      title.textContent = name;
      const code = row.appendChild(document.createElement("code"));
      code.textContent = text;
      const button = row.appendChild(document.createElement("button"));
      button.type = "button";
      button.className = "square";
      button.setAttribute("aria-label", `Copy ${what}`);
      button.append(icon("copy"));
      button.addEventListener("click", () => copy(text, what));
      return row;
    }),
  );
}

export function icon(name) {
  const SVG = "http://www.w3.org/2000/svg";
  const element = document.createElementNS(SVG, "svg");
  element.classList.add("icon");
  element.setAttribute("aria-hidden", "true");
  const use = element.appendChild(document.createElementNS(SVG, "use"));
  use.setAttribute("href", `#i-${name}`);
  return element;
}
