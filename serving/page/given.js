// Given inputs: a file for each, from the file dialog or dropped.
import { acceptOf, typedAs } from "./kinds.js";
import { givenOf, portOf, sizes } from "./model.js";
import { say } from "./say.js";

const WAIT = 300; // ms from the last letter of a typed text to the request

export class Given {
  /** changed() is called when a file is chosen. */
  constructor(root, changed) {
    this.root = root;
    this.changed = changed;
    this.files = new Map(); // name of the input -> File
    this.addresses = new Map();
    this.ratios = new Map(); // name -> height of the chosen picture divided by its width
  }

  /** Shows a chooser for each given input of a model; another model forgets the files. */
  show(model) {
    const ports = givenOf(model).map(portOf);
    const key = JSON.stringify([model.name, ports]);
    this.root.hidden = !ports.length;
    if (key === this.key) return;
    this.key = key;
    this.ports = ports;
    this.files.clear();
    this.ratios.clear();
    for (const address of this.addresses.values()) URL.revokeObjectURL(address);
    this.addresses.clear();
    this.root.replaceChildren(...ports.map((port) => this.#chooser(port)));
  }

  hide() {
    this.root.hidden = true;
    this.key = null;
    this.ports = [];
    this.files.clear();
    this.ratios.clear();
  }

  /** Returns the names of the inputs without a file. */
  get missing() {
    return this.ports.filter(({ name }) => !this.files.has(name)).map(({ name }) => name);
  }

  /** Returns the height of the first chosen picture divided by its width, or undefined. */
  get ratio() {
    return this.ratios.values().next().value;
  }

  #chooser(port) {
    const field = document.createElement("div");
    field.className = "drop";
    const label = field.appendChild(document.createElement("label"));
    const title = label.appendChild(document.createElement("span"));
    title.className = "name";
    title.textContent = port.name;
    const input = label.appendChild(document.createElement("input"));
    input.type = "file";
    input.accept = acceptOf(port);
    input.name = port.name;
    const help = field.appendChild(document.createElement("p"));
    help.className = "help";
    help.id = `given-${port.name}`;
    help.textContent = `${port.kind}, ${sizes(port.shape)}: choose a file or drop it here.`;
    input.setAttribute("aria-describedby", help.id);
    if (typedAs(port)) field.append(this.#typedField(port, () => shown));
    const shown = field.appendChild(document.createElement("div"));
    shown.className = "chosen";
    input.addEventListener("change", () => input.files[0] && this.#choose(port, input.files[0], shown));
    for (const type of ["dragenter", "dragover"])
      field.addEventListener(type, (event) => {
        event.preventDefault();
        field.classList.add("over");
      });
    field.addEventListener("dragleave", () => field.classList.remove("over"));
    field.addEventListener("drop", (event) => {
      event.preventDefault();
      field.classList.remove("over");
      const file = event.dataTransfer?.files[0];
      if (file) this.#choose(port, file, shown);
    });
    return field;
  }

  /** Returns a field for a text in the place of a file that holds it. */
  #typedField(port, shown) {
    const label = document.createElement("label");
    label.append(Object.assign(document.createElement("span"), { textContent: "or type it" }));
    const input = label.appendChild(document.createElement("input"));
    Object.assign(input, { type: "text", dir: "auto", spellcheck: false });
    let timer;
    input.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => {
        const file = new File([input.value], `${port.name}.txt`, { type: "text/plain" });
        this.#choose(port, Object.assign(file, { typed: input.value }), shown());
      }, WAIT);
    });
    return label;
  }

  async #choose({ name }, file, shown) {
    this.files.set(name, file);
    this.ratios.delete(name);
    URL.revokeObjectURL(this.addresses.get(name));
    const text = document.createElement("p");
    text.className = "facts";
    text.textContent = `${file.name}, ${Math.ceil(file.size / 1024)} KiB`;
    shown.replaceChildren(text);
    say(`Chose ${file.name} for ${name}`);
    if (file.type.startsWith("image/")) {
      const picture = new Image();
      this.addresses.set(name, URL.createObjectURL(file));
      picture.src = this.addresses.get(name);
      picture.alt = `the chosen ${name}`;
      try {
        await picture.decode();
        if (this.files.get(name) !== file) return; // another one was chosen meanwhile
        this.ratios.set(name, picture.naturalHeight / picture.naturalWidth);
        picture.classList.toggle("pixels", picture.naturalWidth <= 96);
        shown.prepend(picture);
      } catch {
        // the server says what is wrong with the file
      }
    }
    if (this.files.get(name) === file) this.changed();
  }
}
