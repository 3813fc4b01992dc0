// The address: one flat table of what is shown, in the URL's hash. Unknown keys are dropped, odd values become none.

const SORTS = {
  regression: "worse first",
  gain: "better first",
  disagreement: "scorers disagree",
  spread: "widest spread",
  length: "longest",
  reward: "highest reward",
  prompt: "prompt, A to Z",
};
const STATUSES = ["ok", "abstain", "error", "timeout"];
const PAGE_SIZE = 50;
const LARGEST_PAGE = 200;
const LAST_ROUND = 9999;
const LONGEST_SEARCH = 1000;
const MOST_META = 20;
const INDEX = /^\d{1,9}$/;
const NUMBER = /^-?(\d+\.?\d*|\.\d+)(e-?\d{1,3})?$/i;
const ANSWER_PAIR = /^\d{1,9}\.\d{1,9}~\d{1,9}\.\d{1,9}$/;
/** Keys of the address, and how their values are read. */
const KINDS = {
  run: "text", purpose: "text", round: "round", baseline: "round", sort: "sort", q: "words", scorer: "text",
  min: "number", max: "number", status: "status", meta: "list", page: "index", size: "size",
  prompt: "text", answer: "index", rounds: "indexes", diff: "pair", inline: "flag", shade: "shade",
};
const READERS = {
  text: (value) => value || null,
  words: (value) => firstOf(value, LONGEST_SEARCH) || null,
  status: (value) => (STATUSES.includes(value) ? value : null),
  round: (value) => (INDEX.test(value) && Number(value) <= LAST_ROUND ? Number(value) : null),
  index: (value) => (INDEX.test(value) ? Number(value) : null),
  size: (value) => (INDEX.test(value) ? Math.min(Math.max(Number(value), 1), LARGEST_PAGE) : null),
  number: (value) => (NUMBER.test(value) ? Number(value) : null),
  sort: (value) => (Object.hasOwn(SORTS, value) ? value : null),
  list: (value, all) => all.filter((one) => one.includes("=")).slice(0, MOST_META),
  indexes: (value) => (value ? value.split(".").filter((one) => INDEX.test(one)).map(Number) : null),
  pair: (value) => (ANSWER_PAIR.test(value) ? value : null),
  flag: (value) => (value === "1" ? true : null),
  shade: (value) => (["flags", "ratios", "off"].includes(value) ? value : null),
};

/** What a hash asks for: every key of KINDS, null (or an empty list) where it is not named or not understood. */
function parseHash(hash) {
  const given = new URLSearchParams(hash.replace(/^#/, "").slice(0, 8000));
  const state = {};
  for (const [key, kind] of Object.entries(KINDS)) {
    state[key] = READERS[kind](given.get(key) ?? "", given.getAll(key));
  }
  return state;
}

/** The inverse of `parseHash`, without what is not set. */
function toHash(state) {
  const parameters = new URLSearchParams();
  for (const [key, kind] of Object.entries(KINDS)) {
    const value = state[key];
    if (value === null || value === undefined || value === "" || value === false) continue;
    if (kind === "list") value.forEach((one) => parameters.append(key, one));
    else if (kind === "indexes") parameters.set(key, value.join("."));
    else if (kind === "flag") parameters.set(key, "1");
    else if (!(key === "page" && value === 0)) parameters.set(key, String(value));
  }
  return `#${parameters}`;
}

/** The query of a list: where the state names no purpose or round, the first purpose, its last round against its first. */
function toQuery(state, facets) {
  const purpose = state.purpose ?? facets.purposes[0];
  const rounds = facets.rounds[purpose] ?? [];
  return {
    purpose,
    round: state.round ?? rounds.at(-1) ?? 0,
    baseline: state.baseline ?? rounds[0] ?? 0,
    sort: state.sort ?? "regression",
    q: state.q, scorer: state.scorer, min: state.min, max: state.max, status: state.status, meta: state.meta,
    page: state.page ?? 0,
    size: state.size ?? PAGE_SIZE,
  };
}

/** The query as URL parameters of the server. */
function toParameters(query) {
  const parameters = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) {
    if (Array.isArray(value)) value.forEach((one) => parameters.append(key, one));
    else if (value !== null && value !== undefined && value !== "") parameters.set(key, String(value));
  }
  return parameters;
}
