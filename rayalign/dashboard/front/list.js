// The list of prompts: one row each, a page at a time.

const COLUMNS = [
  ["prompt", "Prompt"], ["reward", "Reward"], ["baseline", "Baseline"], ["delta", "Change"], ["spread", "Spread"],
  ["disagreement", "Disagreement"], ["length", "Tokens"], ["answers", "Answers"],
];
const SORT_OF = { reward: "reward", spread: "spread", disagreement: "disagreement", length: "length", prompt: "prompt" };

function sortOfColumn(column, sort) {
  if (column === "delta") return sort === "regression" ? "gain" : "regression";
  return SORT_OF[column] ?? null;
}

function heading([column, title], query, go) {
  const sort = sortOfColumn(column, query.sort);
  const mine = column === "delta" ? ["regression", "gain"].includes(query.sort) : query.sort === SORT_OF[column];
  const rising = ["regression", "prompt"].includes(query.sort);
  const attributes = { scope: "col", class: `col-${column}`, "aria-sort": mine ? (rising ? "ascending" : "descending") : null };
  if (!sort) return h("th", attributes, title);
  const label = [title, mine ? h("span", { "aria-hidden": "true" }, rising ? " ↑" : " ↓") : null];
  const pick = () => go({ sort, page: 0 });
  return h("th", attributes, h("button", { type: "button", class: "sort", title: `Sort: ${SORTS[sort]}`, "data-key": `sort-${column}`, onclick: pick }, label));
}

/** A bar from the worst to the best reward, on the page's scale. */
function spreadMark(row, scale) {
  if (row.equal) return h("span", { class: "chip", title: "All answers have the same reward: nothing to learn from" }, "all equal");
  if (row.spread === null) return "–";
  const place = (value) => ((value - scale.low) / (scale.high - scale.low || 1)) * 100;
  const range = h("span", { class: "span" });
  range.style.left = `${place(row.worst)}%`;
  range.style.width = `${Math.max(2, place(row.best) - place(row.worst))}%`;
  const title = `worst ${figure(row.worst)}, best ${figure(row.best)}`;
  return [h("span", { class: "range-bar", "aria-hidden": "true", title }, range), h("span", { title }, figure(row.spread))];
}

function scaleOf(rows) {
  const all = rows.flatMap((row) => [row.worst, row.best]).filter((one) => one !== null);
  return { low: Math.min(...all), high: Math.max(...all) };
}

function troubles(statuses) {
  const bad = Object.entries(statuses).filter(([status, n]) => status !== "ok" && n);
  return bad.map(([status, n]) => h("span", { class: `chip ${status}` }, `${n} ${status}`));
}

function listRow(row, at, scale, context) {
  const { state, chosen } = context;
  const hash = toHash({ ...state, prompt: row.id, answer: null, diff: null });
  const first = row.prompt.trim() || `prompt ${row.id}`;
  const link = h("a", { href: hash, "data-key": `row-${row.id}`, "data-row": at, dir: "auto" }, first);
  return h(
    "tr",
    { class: at === chosen ? "chosen" : null, onclick: (event) => openRow(event, link) },
    h("th", { scope: "row", class: "col-prompt" }, link),
    h("td", { class: "col-reward" }, figure(row.reward)),
    h("td", { class: "col-baseline" }, figure(row.baseline)),
    h("td", { class: "col-delta" }, deltaMark(row.delta)),
    h("td", { class: "col-spread" }, spreadMark(row, scale)),
    h("td", { class: "col-disagreement" }, figure(row.disagreement)),
    h("td", { class: "col-length" }, whole(row.length)),
    h("td", { class: "col-answers" }, troubles(row.statuses), whole(row.answers)),
  );
}

/** A click beside the link opens it too, unless text was marked. */
function openRow(event, link) {
  if (event.target.closest("a, button") || String(getSelection())) return;
  link.click();
}

function pager(page, go) {
  const last = Math.max(0, Math.ceil(page.total / page.size) - 1);
  if (last === 0 && page.page === 0) return null;
  const step = (to, label, key) => h("button", { type: "button", "data-key": key, disabled: to < 0 || to > last, onclick: () => go({ page: Math.min(to, last) }) }, label);
  return h(
    "nav",
    { class: "pager", "aria-label": "Pages of prompts" },
    step(page.page - 1, "← Previous", "page-back"),
    h("span", {}, `page ${page.page + 1} of ${last + 1}`),
    step(page.page + 1, "Next →", "page-on"),
  );
}

/** What a page of the list is, in a sentence. */
function listSummary(page, query) {
  const which = page.total ? counted(page.total, "prompt") : "No prompt";
  const compared = query.baseline === query.round ? "" : `, against round ${query.baseline}`;
  return `${which} of ${query.purpose}, round ${query.round}${compared}, order: ${SORTS[query.sort]}`;
}

/** context: {state, query, chosen, go}. */
function drawList(page, context) {
  const { query, go } = context;
  if (!page.total) {
    const reset = () => go({ q: null, scorer: null, min: null, max: null, status: null, meta: [], page: 0 });
    return h("div", { class: "nothing" }, h("p", {}, "No prompt is like that."), h("button", { type: "button", "data-key": "reset", onclick: reset }, "Clear search and filters"));
  }
  const scale = scaleOf(page.rows);
  const table = h(
    "table",
    { class: "prompts" },
    h("caption", { class: "unseen" }, listSummary(page, query)),
    h("thead", {}, h("tr", {}, COLUMNS.map((column) => heading(column, query, go)))),
    h("tbody", {}, page.rows.map((row, at) => listRow(row, at, scale, context))),
  );
  return h("div", {}, table, pager(page, go));
}
