// Color theme. Runs before the first paint, so that the page does not flash in other colors.
(() => {
  const KEY = "keras-gan-theme";
  const NAMES = { auto: "as the system", light: "light", dark: "dark" };
  const order = Object.keys(NAMES);

  const read = () => {
    try {
      const found = localStorage.getItem(KEY);
      return found in NAMES ? found : "auto";
    } catch {
      return "auto"; // storage is not allowed
    }
  };
  const apply = (theme) => {
    document.documentElement.dataset.theme = theme;
    document.getElementById("theme")?.setAttribute("aria-label", `Colors: ${NAMES[theme]}`);
  };

  apply(read());
  document.addEventListener("DOMContentLoaded", () => {
    apply(read());
    document.getElementById("theme").addEventListener("click", () => {
      const theme = order[(order.indexOf(document.documentElement.dataset.theme) + 1) % 3];
      apply(theme);
      try {
        localStorage.setItem(KEY, theme);
      } catch {
        // the theme is kept until the page is left
      }
    });
  });
})();
