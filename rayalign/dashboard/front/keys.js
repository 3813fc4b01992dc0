// Single keys, for the whole page: none while one types, holds a modifier or has a dialog open.

function typing(target) {
  return target instanceof Element && Boolean(target.closest("input:not([type=checkbox]), select, textarea, [contenteditable]"));
}

/** The element of that key that is not hidden. */
function byKey(key) {
  const all = [...document.querySelectorAll("#browser [data-key]")];
  return all.find((one) => one.dataset.key === key && !one.closest("[hidden]")) ?? null;
}

function press(key) {
  const element = byKey(key);
  if (element && !element.disabled) element.click();
}

/** Moves the focus to the list's next or previous row. */
function moveInList(by) {
  const rows = [...document.querySelectorAll("#browser [data-row]")];
  if (!rows.length) return;
  const at = rows.indexOf(document.activeElement);
  const chosen = rows.findIndex((one) => one.closest("tr").classList.contains("chosen"));
  const from = at >= 0 ? at : chosen;
  const to = from < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(rows.length - 1, Math.max(0, from + by));
  rows[to].focus();
}

function nextShade() {
  const select = byKey("shade");
  if (!select) return;
  select.selectedIndex = (select.selectedIndex + 1) % select.options.length;
  select.dispatchEvent(new Event("change"));
}

/** app: {inView(), step(by), leave(), search()}. */
function listenToKeys(app) {
  const actions = {
    j: () => (app.inView() ? app.step(1) : moveInList(1)),
    k: () => (app.inView() ? app.step(-1) : moveInList(-1)),
    n: () => press("page-on"),
    p: () => press("page-back"),
    "/": () => app.search(),
    "?": openHelp,
    b: () => byKey("baseline")?.focus(),
    d: () => press("inline"),
    a: () => press("show-all"),
    s: nextShade,
    t: switchTheme,
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || document.querySelector("dialog[open]")) return;
    if (event.key === "Escape") {
      if (typing(event.target)) event.preventDefault(); // a search box would forget its words
      app.leave(event.target);
    } else if (!typing(event.target) && remembered("keys") !== "off" && Object.hasOwn(actions, event.key)) {
      event.preventDefault();
      actions[event.key]();
    }
  });
}
