// Roving tabindex: a list of tiles is one Tab stop; arrow keys move inside it.

export function rove(list) {
  const tiles = () => [...list.querySelectorAll("button")];
  const settle = (chosen) => {
    for (const tile of tiles()) tile.tabIndex = tile === chosen ? 0 : -1;
  };
  new MutationObserver(() => {
    const all = tiles();
    if (!all.some((tile) => tile.tabIndex === 0) || all.filter((x) => x.tabIndex === 0).length > 1)
      settle(all.find((tile) => tile === document.activeElement) ?? all[0]);
  }).observe(list, { childList: true });
  list.addEventListener("focusin", (event) => event.target.matches("button") && settle(event.target));
  list.addEventListener("keydown", (event) => {
    const all = tiles();
    const at = all.indexOf(document.activeElement);
    if (at < 0) return;
    const columns = all.filter((tile) => tile.offsetTop === all[0].offsetTop).length || 1;
    const to = {
      ArrowRight: at + 1,
      ArrowLeft: at - 1,
      ArrowDown: at + columns,
      ArrowUp: at - columns,
      Home: 0,
      End: all.length - 1,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    all[to]?.focus();
  });
}
