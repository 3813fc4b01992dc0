// Word diff of two texts: the longest common subsequence of words, bounded so that no text can hang the page.

const MOST_CHARACTERS = 60000;
const MOST_WORDS = 2000;
const WORDS = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}]|[\p{L}\p{M}\p{N}_]+|\s+|[^]/gu;

/** A text as words, spaces and single signs; each character of scripts without spaces is a word. */
function words(text) {
  return text.match(WORDS) ?? [];
}

/**
 * {parts, cut}: parts are ["same" | "gone" | "new", text] in order: "gone" stands in the first text only, "new" in the
 * second; cut says in words what of the texts was left out, or is null.
 */
function wordDiff(first, second) {
  const cut = [];
  if (Math.max(first.length, second.length) > MOST_CHARACTERS) cut.push(`the first ${whole(MOST_CHARACTERS)} characters of each text`);
  let before = words(firstOf(first, MOST_CHARACTERS));
  let after = words(firstOf(second, MOST_CHARACTERS));
  const head = commonHead(before, after);
  const tail = commonTail(before, after, head);
  const end = before.slice(before.length - tail);
  const start = before.slice(0, head);
  before = before.slice(head, before.length - tail);
  after = after.slice(head, after.length - tail);
  const parts = start.map((word) => ["same", word]);
  if (before.length > MOST_WORDS && after.length > MOST_WORDS) cut.push(`the first ${whole(MOST_WORDS)} words where they differ`);
  parts.push(...lcs(before.slice(0, MOST_WORDS), after.slice(0, MOST_WORDS)));
  parts.push(...before.slice(MOST_WORDS).map((word) => ["gone", word]), ...after.slice(MOST_WORDS).map((word) => ["new", word]));
  parts.push(...end.map((word) => ["same", word]));
  return { parts: merged(parts), cut: cut.length ? `Compared: ${cut.join(", of these ")}.` : null };
}

function commonHead(before, after) {
  let at = 0;
  while (at < before.length && at < after.length && before[at] === after[at]) at += 1;
  return at;
}

function commonTail(before, after, head) {
  const most = Math.min(before.length, after.length) - head;
  let count = 0;
  while (count < most && before.at(-1 - count) === after.at(-1 - count)) count += 1;
  return count;
}

/** Parts of two short lists of words, by the table of common lengths. */
function lcs(before, after) {
  const width = after.length + 1;
  const common = new Uint16Array((before.length + 1) * width);
  for (let i = before.length - 1; i >= 0; i -= 1) {
    for (let j = after.length - 1; j >= 0; j -= 1) {
      common[i * width + j] = before[i] === after[j]
        ? common[(i + 1) * width + j + 1] + 1
        : Math.max(common[(i + 1) * width + j], common[i * width + j + 1]);
    }
  }
  const parts = [];
  let i = 0;
  let j = 0;
  while (i < before.length || j < after.length) {
    if (i < before.length && j < after.length && before[i] === after[j]) {
      parts.push(["same", before[i]]);
      i += 1;
      j += 1;
    } else if (j >= after.length || (i < before.length && common[(i + 1) * width + j] >= common[i * width + j + 1])) {
      parts.push(["gone", before[i]]);
      i += 1;
    } else {
      parts.push(["new", after[j]]);
      j += 1;
    }
  }
  return parts;
}

/** Runs of the same kind as one part; a lone space between two changes belongs to both, so that phrases stay whole. */
function merged(parts) {
  const runs = [];
  for (const [kind, word] of parts) {
    const last = runs.at(-1);
    if (last && last[0] === kind) last[1].push(word);
    else runs.push([kind, [word]]);
  }
  const texts = runs.map(([kind, some]) => [kind, some.join("")]);
  return phrases(texts);
}

function phrases(texts) {
  const result = [];
  let gone = "";
  let fresh = "";
  const flush = () => {
    if (gone) result.push(["gone", gone]);
    if (fresh) result.push(["new", fresh]);
    gone = "";
    fresh = "";
  };
  texts.forEach(([kind, text], at) => {
    const between = at > 0 && at < texts.length - 1 && /^\s+$/.test(text);
    if (kind === "gone") gone += text;
    else if (kind === "new") fresh += text;
    else if (between && gone && fresh) {
      gone += text;
      fresh += text;
    } else {
      flush();
      result.push(["same", text]);
    }
  });
  flush();
  return result;
}

/** `draw` of a diff's parts; a part that is very long is cut in the middle. */
function diffNodes(parts) {
  return parts.map(([kind, text]) => {
    const short = text.length > LONG_TEXT ? `${firstOf(text, LONG_TEXT)} … (${whole(text.length)} characters)` : text;
    if (kind === "same") return document.createTextNode(shown(short));
    return h(kind === "gone" ? "del" : "ins", {}, short);
  });
}
