// Text from models and people, numbers and elements: everything on the page goes through here, as text, never as markup.

const UNSHOWABLE = /[\u0000-\u0008\u000B\u000C\u000E-\u001F\u007F-\u009F]|\p{Surrogate}/gu;
const LONG_TEXT = 4000;

/** Text with what cannot be shown (NUL, control codes, lone surrogates) made visible as a replacement mark. */
function shown(text) {
  return String(text).replace(UNSHOWABLE, "\uFFFD");
}

/** The first characters of a text, never half of a surrogate pair. */
function firstOf(text, characters) {
  if (text.length <= characters) return text;
  const last = text.charCodeAt(characters - 1);
  return text.slice(0, last >= 0xd800 && last <= 0xdbff ? characters - 1 : characters);
}

/** A number in a few characters, with a real minus sign; a dash where there is none. */
function figure(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  const digits = size >= 1000 ? 0 : size >= 100 ? 1 : size >= 10 ? 2 : 3;
  return value.toFixed(digits).replace("-", "−");
}

function whole(value) {
  return value === null || value === undefined ? "–" : Math.round(value).toLocaleString("en");
}

function counted(number, noun) {
  return `${whole(number)} ${noun}${number === 1 ? "" : "s"}`;
}

/**
 * An element. Attributes that are functions become listeners (`onclick`), `null` and `false` are left out;
 * children are elements, texts or lists of them.
 */
function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : shown(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(shown(child)));
  }
  return element;
}

/** Text for screen readers only. */
function unseen(text) {
  return h("span", { class: "unseen" }, text);
}

/** A difference, told by sign, arrow and colour, and in words to a screen reader. */
function deltaMark(delta) {
  if (delta === null || delta === undefined) return h("span", { class: "delta none" }, "–");
  if (Math.abs(delta) < 5e-4) return h("span", { class: "delta same" }, unseen("unchanged "), "= 0");
  const up = delta > 0;
  return h(
    "span",
    { class: `delta ${up ? "up" : "down"}` },
    unseen(up ? "better by " : "worse by "),
    h("span", { "aria-hidden": "true" }, up ? "▲ +" : "▼ "),
    figure(delta),
  );
}

/** A long text with its beginning shown and a button for the rest. `draw(text)` gives the nodes of a text. */
function longText(text, draw, key) {
  const block = h("div", { class: "text", dir: "auto" }, draw(firstOf(text, LONG_TEXT)));
  if (text.length <= LONG_TEXT) return block;
  const more = h("button", { type: "button", class: "more", "data-key": key }, `Show all ${whole(text.length)} characters`);
  more.addEventListener("click", () => {
    block.replaceChildren(...[draw(text)].flat(Infinity));
    more.remove();
    block.tabIndex = -1;
    block.focus();
  });
  return h("div", {}, block, h("p", { class: "cut" }, `… ${whole(LONG_TEXT)} characters shown. `, more));
}

/** `draw` of plain text. */
function plainText(text) {
  return [document.createTextNode(shown(text))];
}

/** A drop-down list of [value, label] pairs under a visible label. */
function choice(label, key, options, chosen, onPick) {
  const select = h("select", { "data-key": key });
  for (const [value, text] of options) {
    const option = h("option", { value }, text);
    option.selected = String(value) === String(chosen);
    select.append(option);
  }
  select.addEventListener("change", () => onPick(select.value));
  return h("label", { class: "choice" }, h("span", {}, label), select);
}
