// Dialogs: the diff of two answers, and the keys.

const KEYS = [
  ["j / k", "next / previous prompt"], ["Enter", "open the prompt"], ["Escape", "back to the list, or close"],
  ["/", "search"], ["n / p", "next / previous page"], ["b", "choose the baseline round"], ["d", "diff to the baseline, on or off"],
  ["a", "all rounds side by side, or fewer"], ["s", "next shading"], ["t", "light or dark"], ["?", "this list"],
];

/** A dialog that is taken away, and tells `onClose`, when it is closed. */
function openDialog(title, onClose, ...content) {
  const close = h("button", { type: "button", class: "close" }, "Close");
  const dialog = h("dialog", { class: "browser-dialog", "aria-labelledby": "dialog-title" }, h("div", { class: "dialog-head" }, h("h3", { id: "dialog-title" }, title), close), content);
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    dialog.remove();
    onClose();
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

function helpButton() {
  return h("button", { type: "button", class: "small", "data-key": "help", "aria-keyshortcuts": "?", onclick: openHelp }, "Keys ", h("kbd", {}, "?"));
}

function openHelp() {
  const rows = KEYS.map(([key, meaning]) => h("tr", {}, h("th", { scope: "row" }, h("kbd", {}, key)), h("td", {}, meaning)));
  const box = h("input", { type: "checkbox", id: "single-keys" });
  box.checked = remembered("keys") !== "off";
  box.addEventListener("change", () => remember("keys", box.checked ? "on" : "off"));
  return openDialog("Keys", () => {}, h("table", { class: "keys" }, h("tbody", {}, rows)), h("p", {}, h("label", {}, box, " single keys are on")));
}

function findAnswer(view, pair) {
  const [round, index] = pair.split(".").map(Number);
  const answer = answersOf(view, round).find((one) => one.index === index);
  return answer ? { ...answer, round } : null;
}

function diffSide(answer, tag, sign) {
  return h("p", {}, h(tag, {}, `${sign} round ${answer.round}, answer ${answer.index}`), ` reward ${figure(answer.reward)}, ${counted(answer.tokens, "token")}`);
}

/** The word diff of the two answers that the address names; null where the view lacks one. */
function openDiff(view, diff, { go, onClose }) {
  const [first, second] = diff.split("~").map((one) => findAnswer(view, one));
  if (!first || !second) return null;
  const { parts, cut } = wordDiff(first.text, second.text);
  const same = parts.every(([kind]) => kind === "same");
  const swap = () => go({ diff: diff.split("~").reverse().join("~") }, { replace: true });
  return openDialog(
    "Word diff of two answers",
    onClose,
    h("div", { class: "diff-sides" }, diffSide(first, "del", "−"), diffSide(second, "ins", "+"), h("button", { type: "button", class: "small", onclick: swap }, "Swap")),
    cut ? h("p", { class: "cut" }, cut) : null,
    same ? h("p", { class: "cut" }, "The two are the same.") : null,
    h("div", { class: "text diffed", dir: "auto", tabindex: "0", role: "region", "aria-label": "Diff" }, diffNodes(parts)),
  );
}

/** A small preference of this reader, where the browser allows to keep one. */
function remembered(key) {
  try {
    return localStorage.getItem(`rayalign-${key}`);
  } catch {
    return null;
  }
}

function remember(key, value) {
  try {
    localStorage.setItem(`rayalign-${key}`, value);
  } catch {
    // A browser that keeps nothing for files: the choice holds until the page is closed.
  }
}

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function applyTheme(theme) {
  if (["light", "dark"].includes(theme)) document.documentElement.dataset.theme = theme;
}

function switchTheme() {
  applyTheme(isDark() ? "light" : "dark");
  remember("theme", document.documentElement.dataset.theme);
  document.querySelector(".theme")?.setAttribute("aria-pressed", String(isDark()));
}

function themeButton() {
  return h("button", { type: "button", class: "theme", "aria-pressed": String(isDark()), "aria-keyshortcuts": "t", onclick: switchTheme }, "Dark");
}
