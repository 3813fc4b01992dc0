// The browser of answers: the address says what is shown; every change goes through it, so that a link says it all.

const app = { source: null, facets: null, state: null, query: null, page: null, view: null, picked: null, dialog: null, ticket: 0 };
const part = {};

/** Changes the address, by a new entry of the history or in place of this one. */
function go(change, { replace = false } = {}) {
  const run = app.facets.run ?? null;
  const hash = toHash({ ...app.state, run, ...change });
  if (replace) location.replace(hash);
  else location.hash = hash;
}

/** Tells a screen reader, and unless the page shows the same anyway, everyone. */
function say(text, { seen = true } = {}) {
  part.status.classList.toggle("unseen", !seen);
  part.status.textContent = shown(text);
}

function linkTo(change) {
  return toHash({ ...app.state, run: app.facets.run, purpose: app.query.purpose, round: app.query.round, baseline: app.query.baseline, ...change });
}

function linkToAnswer(answer) {
  return linkTo({ prompt: app.view.id, round: answer.round, answer: answer.index, diff: null, rounds: roundsShown(app.view, app.state, app.query) });
}

async function copyLink() {
  const link = new URL(linkTo({}), location.href).href;
  try {
    await navigator.clipboard.writeText(link);
    say("Link copied.");
  } catch {
    location.replace(linkTo({}));
    say("The address bar holds the link.");
  }
}

/** First pick and second pick of two answers to compare. */
function pick(answer) {
  const before = app.picked;
  if (before && before.round === answer.round && before.index === answer.index) {
    app.picked = null;
    say("Nothing is picked.");
  } else if (before) {
    app.picked = null;
    go({ diff: `${before.round}.${before.index}~${answer.round}.${answer.index}` });
    return;
  } else {
    app.picked = { round: answer.round, index: answer.index };
    say(`Answer ${answer.index} of round ${answer.round} is picked: pick the other one.`);
  }
  draw();
}

/** The place of the open prompt in the list's page, or -1. */
function placeInPage() {
  return app.page.rows.findIndex((row) => row.id === app.state.prompt);
}

async function step(by) {
  const { page, query } = app;
  let at = placeInPage() + by;
  let rows = page.rows;
  let index = page.page;
  if (at < 0 || at >= rows.length) {
    index += by;
    if (index < 0 || index * page.size >= page.total) return say(by > 0 ? "This is the last prompt." : "This is the first prompt.");
    rows = (await app.source.list({ ...query, page: index })).rows;
    at = by > 0 ? 0 : rows.length - 1;
  }
  go({ prompt: rows[at].id, page: index, answer: null, diff: null }, { replace: true });
}

function leave(target) {
  if (app.picked) {
    app.picked = null;
    draw();
    say("Nothing is picked.");
  } else if (app.state.prompt && !typing(target)) go({ prompt: null, answer: null, diff: null });
  else if (typing(target)) target.blur();
}

function search() {
  if (app.state.prompt) {
    app.focusAfter = "search";
    go({ prompt: null, answer: null, diff: null });
  } else byKey("search")?.focus();
}

function placeText() {
  const at = placeInPage();
  return at < 0 ? "not in this list" : `${whole(app.page.page * app.page.size + at + 1)} of ${whole(app.page.total)}`;
}

function drawContent() {
  const { state, query, page, view, facets } = app;
  if (state.prompt && view) return drawView({ view, state, query, place: placeText(), picked: app.picked, go, step, copy: copyLink, onPick: pick, link: linkToAnswer });
  if (state.prompt) {
    const back = () => go({ prompt: null, answer: null, diff: null });
    const where = facets.note ? "This file holds a selection only: " + facets.note : "The run has no such prompt.";
    return h("div", { class: "nothing" }, h("p", {}, `Prompt ${firstOf(state.prompt, 80)} is not here. ${where}`), h("button", { type: "button", "data-key": "back", onclick: back }, "← All prompts"));
  }
  return drawList(page, { state: { ...state, run: facets.run }, query, chosen: app.page.rows.findIndex((row) => row.id === app.last), go });
}

/** The toolbar is built anew only when something else than the words being typed has changed. */
function drawToolbarPart() {
  const { state, query, facets } = app;
  const sign = JSON.stringify([{ ...query, q: null, page: null }, facets]);
  const typed = part.toolbar.querySelector("[type=search]")?.value.trim() ?? null;
  part.toolbar.hidden = Boolean(state.prompt);
  if (sign !== app.sign || typed !== (state.q ?? "")) part.toolbar.replaceChildren(drawToolbar({ state, query, facets, go }));
  app.sign = sign;
}

function draw() {
  const focused = document.activeElement?.closest("#browser [data-key]")?.dataset.key ?? null;
  drawToolbarPart();
  part.content.replaceChildren(drawContent());
  part.content.removeAttribute("aria-busy");
  part.notes.replaceChildren(...notes());
  if (focused && !app.focusAfter) byKey(focused)?.focus({ preventScroll: true });
}

function notes() {
  const { facets, state } = app;
  const wrong = state.run && state.run !== facets.run ? [`The link is to run ${firstOf(state.run, 80)}; this page shows ${facets.run}.`] : [];
  const problems = [...wrong, ...(facets.problems ?? [])];
  return [
    facets.note ? h("p", { class: "note" }, facets.note) : null,
    problems.length ? h("ul", { class: "lacks", "aria-label": "Problems" }, problems.map((one) => h("li", {}, one))) : null,
  ].filter(Boolean);
}

/** Opens the diff that the address asks for; one that is open already stays. */
function drawDialog() {
  const { view } = app;
  const diff = view ? app.state.diff : null;
  const sign = diff && `${view.id} ${diff}`;
  if (sign && app.dialog?.sign === sign) return;
  const old = app.dialog;
  app.dialog = null;
  old?.element.close();
  if (!diff) return;
  const mine = { sign };
  const onClose = () => {
    if (app.dialog !== mine) return;
    app.dialog = null;
    go({ diff: null }, { replace: true });
  };
  mine.element = openDiff(view, diff, { go, onClose });
  if (mine.element) app.dialog = mine;
  else say("One of the two answers is not here.");
}

/** Where the reader stands after a change: at the prompt's title, at the answer of the link, or at the row they left. */
function settle(before) {
  const { state } = app;
  const opened = state.prompt && state.prompt !== before?.prompt;
  const closed = !state.prompt && before?.prompt;
  if (opened || (state.answer !== null && state.answer !== before?.answer)) {
    const answer = document.querySelector("#browser .answer.linked");
    document.getElementById("browser").scrollIntoView();
    document.getElementById("prompt-title")?.focus({ preventScroll: true });
    answer?.scrollIntoView({ block: "center" });
  } else if (closed) byKey(app.focusAfter ?? `row-${before.prompt}`)?.focus();
  app.focusAfter = null;
}

async function render() {
  const before = app.state;
  if (before && location.hash && !location.hash.includes("=")) return;
  const ticket = (app.ticket += 1);
  const state = parseHash(location.hash);
  if (!app.facets.purposes.length) {
    app.state = state;
    part.notes.replaceChildren(...notes());
    part.content.replaceChildren(h("p", { class: "nothing" }, "This run has no answers yet."));
    return;
  }
  const query = toQuery(state, app.facets);
  part.content.setAttribute("aria-busy", "true");
  try {
    const [page, view] = await Promise.all([app.source.list(query), state.prompt ? app.source.view(state.prompt, query.purpose) : null]);
    if (ticket !== app.ticket) return;
    if (state.prompt !== before?.prompt) app.picked = null;
    Object.assign(app, { state, query, page, view, last: state.prompt ?? app.last });
    draw();
    drawDialog();
    settle(before);
    if (state.prompt) say(`Prompt ${placeText()}`, { seen: false });
    else say(listSummary(page, query));
  } catch (error) {
    if (ticket === app.ticket) showError(error);
  }
}

function showError(error) {
  part.content.removeAttribute("aria-busy");
  part.content.replaceChildren(h("div", { class: "nothing", role: "alert" }, h("p", {}, error.message), h("button", { type: "button", "data-key": "again", onclick: start }, "Try again")));
}

/** News of a run that goes on: told, and shown without moving the reader. The rest of the page waits for a reload. */
async function refresh({ rounds, state }) {
  const news = `${counted(rounds, "round")}, ${state}`;
  try {
    app.facets = await app.source.facets();
    await render();
    say(`News: ${news}.`);
  } catch (error) {
    say(error.message);
  }
  const again = h("button", { type: "button", class: "small", "data-key": "reload", onclick: () => location.reload() }, "Draw the curves anew");
  part.news.replaceChildren(document.createTextNode(`Updated: ${shown(news)} `), again);
}

async function start() {
  try {
    app.facets = await app.source.facets();
    await render();
  } catch (error) {
    showError(error);
  }
}

function mount() {
  applyTheme(remembered("theme"));
  const data = pageData();
  const section = document.getElementById("browser");
  document.querySelector("body > header")?.append(themeButton());
  if (!data || !section) return;
  for (const name of ["head", "notes", "toolbar", "status", "news", "content"]) part[name] = section.querySelector(`[data-part=${name}]`);
  section.querySelector("[data-part=app]").hidden = false;
  document.body.prepend(h("a", { class: "skip", href: "#browser" }, "To the answers"));
  part.head.append(helpButton());
  if (!location.hash && location.search.includes("=")) location.hash = location.search.slice(1);
  app.source = openSource(data);
  app.source.onChange(refresh);
  addEventListener("hashchange", render);
  listenToKeys({ inView: () => Boolean(app.state?.prompt && app.view), step, leave, search });
  start();
}

mount();
