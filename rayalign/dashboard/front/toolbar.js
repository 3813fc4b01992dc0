// What the list shows: search, purpose, rounds, order and filters. Built once for a run's facets, then kept in step.

const TYPING_PAUSE_MS = 200;

function searchBox(state, go) {
  let waiting;
  const input = h("input", { type: "search", value: state.q ?? "", placeholder: "words in prompts and answers", "data-key": "search", "aria-keyshortcuts": "/" });
  const look = () => go({ q: input.value.trim() || null, page: 0 }, { replace: true });
  input.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(look, TYPING_PAUSE_MS);
  });
  input.addEventListener("change", () => {
    clearTimeout(waiting);
    look();
  });
  return h("label", { class: "choice search" }, h("span", {}, "Search"), input);
}

function numberBox(label, key, value, go) {
  const input = h("input", { type: "text", inputmode: "decimal", size: 6, value: value ?? "", "data-key": `filter-${key}` });
  input.addEventListener("change", () => {
    const number = READERS.number(input.value.trim());
    input.setAttribute("aria-invalid", String(Boolean(input.value.trim()) && number === null));
    go({ [key]: number, page: 0 });
  });
  return h("label", { class: "choice" }, h("span", {}, label), input);
}

function roundChoice(label, key, rounds, chosen, go) {
  const options = rounds.map((one) => [one, `round ${one}`]);
  if (!rounds.includes(chosen)) options.push([chosen, `round ${chosen}, not there`]);
  return choice(label, key, options, chosen, (value) => go({ [key]: Number(value), page: 0 }));
}

function metadataChoice(facets, state, go) {
  const pairs = Object.entries(facets.metadata ?? {}).flatMap(([key, values]) => values.map((value) => `${key}=${asText(value)}`));
  if (!pairs.length) return null;
  const options = [["", "any"], ...pairs.map((pair) => [pair, pair.replace("=", " = ")])];
  const add = (pair) => go({ meta: pair ? [...state.meta.filter((one) => keyOf(one) !== keyOf(pair)), pair] : [], page: 0 });
  return choice("Metadata", "filter-meta", options, state.meta.at(-1) ?? "", add);
}

function keyOf(pair) {
  return pair.slice(0, pair.indexOf("="));
}

/** The filters that are on, each with a button that takes it off. */
function filterChips(state, go) {
  const on = [];
  const add = (label, change) => on.push(h("button", { type: "button", class: "chip off", "data-key": `off-${label}`, onclick: () => go({ ...change, page: 0 }) }, label, h("span", { "aria-hidden": "true" }, " ×"), unseen(", remove this filter")));
  if (state.min !== null) add(`${state.scorer ?? "reward"} ≥ ${figure(state.min)}`, { min: null });
  if (state.max !== null) add(`${state.scorer ?? "reward"} ≤ ${figure(state.max)}`, { max: null });
  if (state.status) add(`status ${state.status}${state.scorer ? ` of ${state.scorer}` : ""}`, { status: null });
  state.meta.forEach((pair) => add(pair.replace("=", " = "), { meta: state.meta.filter((one) => one !== pair) }));
  return on.length ? h("p", { class: "chips" }, on) : null;
}

function filtersOn(state) {
  return state.min !== null || state.max !== null || Boolean(state.status) || state.meta.length > 0 || Boolean(state.scorer);
}

/** context: {state, query, facets, go}. */
function drawToolbar({ state, query, facets, go }) {
  const rounds = facets.rounds[query.purpose] ?? [];
  const scorers = [["", "combined reward"], ...facets.scorers.map((one) => [one, one])];
  const statuses = [["", "any"], ...facets.statuses.map((one) => [one, one])];
  const filters = h(
    "details",
    { class: "filters", open: filtersOn(state) },
    h("summary", { "data-key": "filters" }, "Filters"),
    h(
      "div",
      { class: "choices" },
      choice("Scorer", "filter-scorer", scorers, state.scorer ?? "", (value) => go({ scorer: value || null, page: 0 })),
      numberBox("Reward from", "min", state.min, go),
      numberBox("to", "max", state.max, go),
      choice("Status", "filter-status", statuses, state.status ?? "", (value) => go({ status: value || null, page: 0 })),
      metadataChoice(facets, state, go),
    ),
  );
  return h(
    "form",
    { class: "toolbar", role: "search", "aria-label": "Prompts", onsubmit: (event) => event.preventDefault() },
    h(
      "div",
      { class: "choices" },
      searchBox(state, go),
      facets.purposes.length > 1 ? choice("Answers for", "purpose", facets.purposes.map((one) => [one, one]), query.purpose, (purpose) => go({ purpose, round: null, baseline: null, page: 0 })) : null,
      roundChoice("Round", "round", rounds, query.round, go),
      roundChoice("Baseline", "baseline", rounds, query.baseline, go),
      choice("Order", "sort", Object.entries(SORTS), query.sort, (sort) => go({ sort, page: 0 })),
    ),
    filters,
    filterChips(state, go),
  );
}
