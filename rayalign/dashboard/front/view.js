// A prompt's view: the conversation, then all its answers, one column a round, aligned from best to worst.

function conversation(view) {
  const turns = view.messages.map((message, at) =>
    h("div", { class: "turn" }, h("p", { class: "who" }, message.role), longText(message.content, plainText, `more-turn-${at}`)),
  );
  const target = view.target ? h("div", { class: "turn target" }, h("p", { class: "who" }, "target"), longText(view.target, plainText, "more-target")) : null;
  const facts = Object.entries(view.metadata ?? {});
  const metadata = facts.length ? h("ul", { class: "facts" }, facts.map(([key, value]) => h("li", {}, `${key} `, h("b", { dir: "auto" }, firstOf(asText(value), 200))))) : null;
  const none = turns.length ? null : h("p", { class: "cut" }, "The run folder does not hold the text of this prompt.");
  return h("div", { class: "conversation" }, none, turns, target, metadata);
}

/** The rounds shown side by side: those that the address names, else the baseline and the list's round. */
function roundsShown(view, state, query) {
  const known = view.rounds.map((one) => one.round);
  const wanted = state.rounds ?? [query.baseline, query.round];
  const chosen = known.filter((one) => wanted.includes(one));
  return chosen.length ? chosen : known.slice(-1);
}

function roundToggles(view, chosen, go) {
  const known = view.rounds.map((one) => one.round);
  const toggle = (round) => {
    const next = chosen.includes(round) ? chosen.filter((one) => one !== round) : [...chosen, round];
    if (next.length) go({ rounds: next.sort((a, b) => a - b) }, { replace: true });
  };
  const button = (round) => h("button", { type: "button", class: "toggle", "aria-pressed": String(chosen.includes(round)), "data-key": `show-${round}`, onclick: () => toggle(round) }, unseen("round "), round);
  const all = chosen.length === known.length;
  return h(
    "div",
    { class: "rounds", role: "group", "aria-label": "Rounds side by side" },
    h("span", { class: "label" }, "Rounds"),
    known.map(button),
    known.length > 2 ? h("button", { type: "button", class: "small", "data-key": "show-all", onclick: () => go({ rounds: all ? null : known }, { replace: true }) }, all ? "fewer" : "all") : null,
  );
}

/** context: {view, state, query, chosen, shade, go}. */
function viewOptions({ view, state, query, chosen, shade, go }) {
  const rounds = view.rounds.map((one) => one.round);
  const shades = shadesOf(view);
  const flip = () => go({ inline: !state.inline }, { replace: true });
  return h(
    "div",
    { class: "choices options" },
    roundToggles(view, chosen, go),
    choice("Baseline", "baseline", rounds.map((one) => [one, `round ${one}`]), query.baseline, (value) => go({ baseline: Number(value) }, { replace: true })),
    shades.length > 1 ? choice("Shading", "shade", shades.map((one) => [one, SHADES[one]]), shade, (value) => go({ shade: value }, { replace: true })) : null,
    h("button", { type: "button", class: "toggle wide", "aria-pressed": String(Boolean(state.inline)), "data-key": "inline", "aria-keyshortcuts": "d", onclick: flip }, `Diff to round ${query.baseline}`),
  );
}

function columnHead(one, baseline) {
  const reward = mean(rewardsOf(one.answers));
  const before = baseline ? mean(rewardsOf(baseline.answers)) : null;
  const own = baseline && baseline.round === one.round;
  const delta = own || reward === null || before === null ? null : reward - before;
  return h(
    "th",
    { scope: "col" },
    h("b", {}, `Round ${one.round}`),
    h("span", { class: "who" }, ` ${own ? "baseline, " : ""}mean `),
    h("b", {}, figure(reward)),
    delta === null ? null : [" ", deltaMark(delta)],
  );
}

/** The answers as a table: rows are places (1 is the best), columns rounds. */
function answerTable(context) {
  const { view, state, query, chosen, shade } = context;
  const rounds = view.rounds.filter((one) => chosen.includes(one.round));
  const baseline = view.rounds.find((one) => one.round === query.baseline);
  const places = Math.max(0, ...rounds.map((one) => one.answers.length));
  const cell = (one, place) => {
    const answer = one.answers[place];
    if (!answer) return h("td", { class: "none" }, unseen("no answer"));
    const against = one.round === query.baseline ? null : baseline?.answers[place] ?? null;
    const linked = state.answer === answer.index && query.round === one.round;
    return h("td", {}, drawAnswer({ ...answer, round: one.round }, { ...context, rank: place + 1, against, shade, inline: state.inline, linked }));
  };
  const rows = Array.from({ length: places }, (_, place) =>
    h("tr", {}, h("th", { scope: "row" }, unseen("place "), place + 1), rounds.map((one) => cell(one, place))),
  );
  return h(
    "div",
    { class: "side", role: "region", tabindex: "0", "aria-label": "Answers side by side" },
    h(
      "table",
      { class: `answers n${Math.min(rounds.length, 6)}` },
      h("caption", { class: "unseen" }, "Answers, one column a round, from best to worst"),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, unseen("place")), rounds.map((one) => columnHead(one, baseline)))),
      h("tbody", {}, rows),
    ),
  );
}

function viewHead({ view, place, go, step, copy }) {
  return h(
    "div",
    { class: "view-head" },
    h("button", { type: "button", "data-key": "back", "aria-keyshortcuts": "Escape", onclick: () => go({ prompt: null, answer: null, diff: null }) }, "← All prompts"),
    h("h3", { tabindex: "-1", id: "prompt-title" }, "Prompt ", h("code", {}, view.id)),
    h("span", { class: "who" }, place),
    h("span", { class: "actions" },
      h("button", { type: "button", "data-key": "earlier", "aria-keyshortcuts": "k", onclick: () => step(-1) }, "↑ Previous"),
      h("button", { type: "button", "data-key": "later", "aria-keyshortcuts": "j", onclick: () => step(1) }, "↓ Next"),
      h("button", { type: "button", "data-key": "copy", onclick: copy }, "Copy link")),
  );
}

/** context: {view, state, query, place, picked, go, step, copy, onPick, link}. */
function drawView(context) {
  const { view, state, query } = context;
  const chosen = roundsShown(view, state, query);
  const shades = shadesOf(view);
  const shade = shades.includes(state.shade) ? state.shade : shades.includes("flags") ? "flags" : "off";
  const full = { ...context, chosen, shade };
  const flat = view.rounds.some((one) => one.round === query.round && rowOf(view, query).equal);
  return h(
    "div",
    { class: "view" },
    viewHead(context),
    view.cut ? h("p", { class: "cut" }, "Long texts, or some rounds and answers, are left out of this file; rayalign serve shows all.") : null,
    conversation(view),
    viewOptions(full),
    state.inline ? h("p", { class: "legend" }, h("del", {}, "gone"), " and ", h("ins", {}, "new"), ` words, against the answer of the same place in round ${query.baseline}.`) : shade === "off" ? null : shadeLegend(shade),
    flat ? h("p", { class: "legend" }, h("span", { class: "chip" }, "all equal"), ` Every answer of round ${query.round} has the same reward${query.purpose === "train" ? ": this group teaches nothing" : ""}.`) : null,
    answerTable(full),
  );
}
