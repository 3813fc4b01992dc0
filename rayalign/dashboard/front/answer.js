// One answer: its reward, its scores and judgments, its text with flags, shading or a diff.

const SHADES = { off: "no shading", flags: "blamed tokens", ratios: "log-ratio" };
const RATIO_STEPS = [0.1, 0.5, 1, 2];

function signed(value) {
  return `${value > 0 ? "+" : ""}${figure(value)}`;
}

/** Tokens that judgments blame, underlined and marked. */
function flagNodes(flags) {
  return flags.map(([token, flag]) => (flag ? h("mark", {}, token) : document.createTextNode(shown(token))));
}

/** Tokens shaded by log p(token | judgment) - log p(token), in nats; null is no number. */
function ratioNodes(ratios) {
  return ratios.map(([token, ratio]) => {
    const step = RATIO_STEPS.filter((least) => Math.abs(ratio) >= least).length;
    if (!step) return document.createTextNode(shown(token));
    return h("span", { class: `ratio ${ratio > 0 ? "more" : "less"}${step}`, title: `${signed(ratio)} nats` }, token);
  });
}

function shadeLegend(shade) {
  if (shade === "flags") return h("p", { class: "legend" }, h("mark", {}, "marked"), " tokens: a judgment blames them; they are trained to be less likely.");
  const sample = (name, label) => h("span", { class: `ratio ${name}` }, label);
  return h(
    "p",
    { class: "legend" },
    "Log-ratio in nats, with the judgment against without it: ",
    ["≤ −2", "−1", "−0.5", "−0.1"].map((label, at) => [sample(`less${4 - at}`, label), " "]),
    "less likely · more likely, so to blame (underlined) ",
    ["+0.1", "+0.5", "+1", "≥ +2"].map((label, at) => [sample(`more${at + 1}`, label), " "]),
  );
}

/** The shadings that any answer of a view has. */
function shadesOf(view) {
  const answers = view.rounds.flatMap((one) => one.answers);
  const has = (key) => answers.some((answer) => answer[key]?.length);
  return ["off", "flags", "ratios"].filter((shade) => shade === "off" || has(shade));
}

function answerText(answer, { shade, inline, against }) {
  if (inline && against) {
    const { parts, cut } = wordDiff(against.text, answer.text);
    const text = h("div", { class: "text diffed", dir: "auto" }, diffNodes(parts));
    return cut ? [h("p", { class: "cut" }, cut), text] : text;
  }
  if (shade === "flags" && answer.flags?.length) return h("div", { class: "text", dir: "auto" }, flagNodes(answer.flags));
  if (shade === "ratios" && answer.ratios?.length) return h("div", { class: "text", dir: "auto" }, ratioNodes(answer.ratios));
  if (!answer.text) return h("p", { class: "cut" }, "(empty answer)");
  return longText(answer.text, plainText, `more-${answer.round}-${answer.index}`);
}

function scoreChips(scores) {
  return Object.entries(scores).map(([scorer, score]) => {
    const value = score.status === "ok" ? figure(score.reward) : score.status;
    return h("li", { class: `score ${score.status}` }, h("span", {}, scorer), " ", h("b", {}, value), score.verdict ? h("span", { class: `chip ${score.verdict}` }, score.verdict) : null);
  });
}

/** What the scorers say in words: judgments, and why a score is missing. */
function judgments(scores) {
  const said = Object.entries(scores).filter(([, score]) => score.text || score.reason);
  return said.map(([scorer, score]) =>
    h(
      "div",
      { class: `judgment ${score.status}` },
      h("p", { class: "who" }, scorer, score.status === "ok" ? null : h("span", { class: `chip ${score.status}` }, score.status)),
      score.reason ? h("p", { class: "reason", dir: "auto" }, score.reason) : null,
      score.text ? longText(score.text, plainText, null) : null,
    ),
  );
}

function finishChip(answer) {
  if (answer.finish === "length") return h("span", { class: "chip cutoff", title: "stopped by the token limit" }, "cut at the limit");
  return null;
}

function versionText(version) {
  if (version === null || version === undefined) return null;
  return version < 0 ? "from the dataset" : version === 0 ? "base model" : `adapter ${version}`;
}

function answerActions(answer, { picked, onPick, link }) {
  const mine = picked && picked.round === answer.round && picked.index === answer.index;
  const name = `answer ${answer.index} of round ${answer.round}`;
  const key = `${answer.round}-${answer.index}`;
  return h(
    "span",
    { class: "actions" },
    h("button", { type: "button", class: "small", "aria-pressed": String(Boolean(mine)), "data-key": `pick-${key}`, onclick: () => onPick(answer) }, mine ? "picked" : "diff", unseen(` ${name}`)),
    h("a", { href: link(answer), "data-key": `link-${key}`, title: "Link to this answer" }, h("span", { "aria-hidden": "true" }, "#"), unseen(`link to ${name}`)),
  );
}

/**
 * An answer's card. context: {rank, against (the baseline's answer of the same rank, or null), shade, inline, linked,
 * picked, onPick, link}.
 */
function drawAnswer(answer, context) {
  const { against, rank, linked } = context;
  const delta = against && answer.reward !== null && against.reward !== null ? answer.reward - against.reward : undefined;
  const facts = [counted(answer.tokens, "token"), versionText(answer.version)].filter(Boolean).join(" · ");
  return h(
    "article",
    { class: `answer${linked ? " linked" : ""}`, id: `answer-${answer.round}-${answer.index}`, "aria-label": `Round ${answer.round}, place ${rank}` },
    h(
      "header",
      {},
      h("span", { class: "mean" }, unseen("reward "), figure(answer.reward)),
      delta === undefined ? null : deltaMark(delta),
      h("span", { class: "who" }, `round ${answer.round} · answer ${answer.index}`),
      finishChip(answer),
      answerActions(answer, context),
    ),
    answerText(answer, context),
    h("footer", {}, h("ul", { class: "scores", "aria-label": "Scores" }, scoreChips(answer.scores)), h("span", { class: "who" }, facts)),
    judgments(answer.scores),
  );
}
