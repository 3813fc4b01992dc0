// Filter, sort and page the prompts' views of a file: the same meaning of a query as the server's SQL has
// (tests/unit/answer_query_cases.py).

function answersOf(view, round) {
  return view.rounds.find((one) => one.round === round)?.answers ?? [];
}

/** The combined rewards of answers, or those that a scorer gave, of the answers that have one. */
function rewardsOf(answers, scorer = null) {
  const all = answers.map((one) => (scorer === null ? one.reward : okReward(one.scores[scorer])));
  return all.filter((one) => one !== null && one !== undefined);
}

function okReward(score) {
  return score?.status === "ok" ? score.reward : null;
}

function mean(values) {
  return values.length ? values.reduce((sum, one) => sum + one, 0) / values.length : null;
}

function promptText(view) {
  return view.messages.map((one) => one.content).join("\n");
}

/**
 * Of the pairs of answers that two scorers or more put in an order, the share that two of them put in opposite orders;
 * null where there is no such pair.
 */
function disagreementOf(answers) {
  const opposite = [];
  answers.forEach((one, at) => {
    for (const other of answers.slice(at + 1)) {
      const orders = ordersOf(one, other);
      if (orders.length > 1) opposite.push(orders.includes(1) && orders.includes(-1) ? 1 : 0);
    }
  });
  return mean(opposite);
}

/** 1 or -1 from each scorer that puts two answers in an order. */
function ordersOf(one, other) {
  const signs = Object.keys(one.scores).map((scorer) => {
    const [a, b] = [one.scores[scorer]?.reward ?? null, other.scores[scorer]?.reward ?? null];
    return a === null || b === null ? 0 : Math.sign(a - b);
  });
  return signs.filter(Boolean);
}

function statusesOf(answers) {
  const counts = {};
  for (const answer of answers) {
    for (const { status } of Object.values(answer.scores)) counts[status] = (counts[status] ?? 0) + 1;
  }
  return counts;
}

/** A prompt's row of the list, for a query's round and baseline. */
function rowOf(view, query) {
  const answers = answersOf(view, query.round);
  const rewards = rewardsOf(answers);
  const reward = mean(rewards);
  const baseline = mean(rewardsOf(answersOf(view, query.baseline)));
  const best = rewards.length ? Math.max(...rewards) : null;
  const worst = rewards.length ? Math.min(...rewards) : null;
  return {
    id: view.id,
    prompt: promptText(view),
    reward,
    baseline,
    delta: reward === null || baseline === null ? null : reward - baseline,
    best,
    worst,
    spread: best === null ? null : best - worst,
    equal: rewards.length > 1 && best === worst,
    disagreement: disagreementOf(answers),
    length: mean(answers.map((one) => one.tokens)),
    answers: answers.length,
    statuses: statusesOf(answers),
  };
}

function matches(view, query) {
  const answers = answersOf(view, query.round);
  if (!answers.length) return false;
  return inRange(answers, query) && hasText(view, answers, query.q) && hasStatus(answers, query) && hasMetadata(view, query.meta);
}

function inRange(answers, query) {
  const low = query.min ?? null;
  const high = query.max ?? null;
  if (low === null && high === null) return true;
  const value = mean(rewardsOf(answers, query.scorer || null));
  return value !== null && (low === null || value >= low) && (high === null || value <= high);
}

/** The words as they stand, in any case, in a message of the prompt or in an answer. */
function hasText(view, answers, q) {
  if (!q) return true;
  const wanted = q.toLowerCase();
  const texts = [...view.messages.map((one) => one.content), ...answers.map((one) => one.text)];
  return texts.some((text) => text.toLowerCase().includes(wanted));
}

function hasStatus(answers, { status, scorer }) {
  if (!status) return true;
  return answers.some((answer) => {
    const scores = scorer ? [answer.scores[scorer]] : Object.values(answer.scores);
    return scores.some((one) => one?.status === status);
  });
}

/** Every pair "key=value" holds; lists and objects equal nothing. */
function hasMetadata(view, pairs) {
  return (pairs ?? []).every((pair) => {
    const at = pair.indexOf("=");
    const key = pair.slice(0, at);
    if (!Object.hasOwn(view.metadata ?? {}, key)) return false;
    const value = view.metadata[key];
    return (value === null || typeof value !== "object") && asText(value) === pair.slice(at + 1);
  });
}

function asText(value) {
  return typeof value === "string" ? value : JSON.stringify(value);
}

const ORDERS = {
  regression: (row) => row.delta,
  gain: (row) => negative(row.delta),
  disagreement: (row) => negative(row.disagreement),
  spread: (row) => negative(row.spread),
  length: (row) => negative(row.length),
  reward: (row) => negative(row.reward),
  prompt: (row) => row.prompt,
};

function negative(value) {
  return value === null ? null : -value;
}

/** Numbers by size, texts by code points. */
function compare(a, b) {
  if (typeof a === "number") return a - b;
  let at = 0;
  while (at < a.length && at < b.length && a.charCodeAt(at) === b.charCodeAt(at)) at += 1;
  if (at === a.length || at === b.length) return a.length - b.length;
  return codePlace(a.charCodeAt(at)) - codePlace(b.charCodeAt(at));
}

/** Code units in the order of the code points that they stand for: surrogates after all others. */
function codePlace(unit) {
  return unit >= 0xd800 && unit <= 0xdfff ? unit + 0x10000 : unit;
}

/** Smallest first, what has no value last, equal ones by the prompt's id. */
function inOrder(rows, sort) {
  const key = ORDERS[sort] ?? ORDERS.regression;
  return rows
    .map((row) => [key(row), row])
    .sort(([a, one], [b, other]) => (a === null) - (b === null) || (a === null ? 0 : compare(a, b)) || compare(one.id, other.id))
    .map(([, row]) => row);
}

/** A page of the list: {total, page, size, rows}. */
function selectPage(views, query) {
  const rows = inOrder(views.filter((view) => matches(view, query)).map((view) => rowOf(view, query)), query.sort);
  const from = query.page * query.size;
  const page = rows.slice(from, from + query.size).map((row) => ({ ...row, prompt: firstOf(row.prompt, 240) }));
  return { total: rows.length, page: query.page, size: query.size, rows: page };
}
