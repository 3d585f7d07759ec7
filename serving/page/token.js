// Dialog that asks for a bearer token.
import { complain } from "./say.js";
import { ServerError } from "./api.js";

/** Asks for a token; line: the server's message; wrong: true if it refused a token. */
export function askToken(line, wrong) {
  const dialog = document.getElementById("token");
  const field = document.getElementById("token-value");
  complain(dialog.querySelector("[data-problem]"), wrong ? new Error(line) : null);
  field.value = "";
  dialog.returnValue = "";
  dialog.showModal();
  field.focus();
  return new Promise((resolve, reject) => {
    const submit = (event) => {
      event.preventDefault();
      if (/^[\x21-\x7e]+$/.test(field.value.trim())) return dialog.close("given");
      const rule = "A token must consist of ASCII letters, digits and punctuation, without spaces.";
      complain(dialog.querySelector("[data-problem]"), new Error(rule)); // the limits of a header
    };
    const form = document.getElementById("token-form");
    form.addEventListener("submit", submit);
    dialog.addEventListener(
      "close",
      () => {
        form.removeEventListener("submit", submit);
        if (dialog.returnValue === "given") resolve(field.value.trim());
        else reject(new ServerError(401, line));
      },
      { once: true },
    );
  });
}
