"""A small world of list-writing instructions whose answers a rule can check.

    "Name three fruits from A to Z, separated by commas, and end with done."  ->  "apple, lemon, plum. done"

An instruction combines five constraints (`KINDS`). A combination belongs wholly to training or wholly to the
held-out prompts, whatever the seed. Everything is a pure function of its arguments: no clock, no hash order.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import re
from typing import Any

Constraints = dict[str, Any]

CATEGORIES: dict[str, tuple[str, ...]] = {
    "animals": ("bear", "cat", "dog", "fox", "goat", "horse", "lion", "wolf"),
    "fruits": ("apple", "banana", "cherry", "grape", "lemon", "mango", "peach", "plum"),
    "colors": ("black", "blue", "brown", "green", "pink", "red", "white", "yellow"),
    "tools": ("axe", "brush", "drill", "hammer", "knife", "rake", "saw", "wrench"),
}
WORDS: tuple[str, ...] = tuple(word for words in CATEGORIES.values() for word in words)
COUNTS: dict[int, str] = {2: "two", 3: "three", 4: "four", 5: "five"}
ORDERS: dict[str, tuple[str, ...]] = {
    "any": ("",),
    "alphabetical": ("in alphabetical order", "from A to Z", "sorted alphabetically"),
    "reverse": ("in reverse alphabetical order", "from Z to A", "sorted backwards"),
}
SEPARATORS: dict[str, str] = {"comma": ", ", "semicolon": "; ", "and": " and "}
SEPARATOR_NAMES: dict[str, str] = {"comma": "commas", "semicolon": "semicolons", "and": "and"}
ENDINGS: dict[str, str] = {"done": ". done", "thanks": ". thanks", "period": ".", "exclamation": "!"}
ENDING_NAMES: dict[str, str] = {
    "done": "done",
    "thanks": "thanks",
    "period": "a period",
    "exclamation": "an exclamation mark",
}
KINDS = ("count", "category", "order", "separator", "ending")
"""The constraints of an instruction, in the order in which the judge names their violations."""

OPENERS = ("List", "Name", "Write", "Give", "Show", "Pick", "Please list", "Please name")
JUDGED_TEMPLATE = "{text}\nJudgment: {judgment}"
PERFECT = "Perfect."

# Order is the hardest to learn: an example that breaks it more rarely leaves more examples that show it.
_FLAW_KINDS = ("count", "category", "separator", "ending") * 2 + ("order",)
_SKILLS_PART = 0.4
_PHRASINGS = 5
_HOLDOUT_SHARE = 4
_MAX_CHARS = 4096
_SPLIT_ITEMS = re.compile("(" + "|".join(re.escape(text) for text in SEPARATORS.values()) + ")")
_VALUES: tuple[tuple[Any, ...], ...] = (
    tuple(COUNTS), tuple(CATEGORIES), tuple(ORDERS), tuple(SEPARATORS), tuple(ENDINGS),
)  # fmt: skip


def combinations(split: str) -> list[Constraints]:
    """Return the combinations of constraints of `split` ("train" or "holdout"); every fourth one is held out.

    The split is ranked by a digest and not by a seed, so that a policy trained with one seed has not seen the
    held-out combinations of another.
    """
    every = sorted(itertools.product(*_VALUES), key=lambda combo: hashlib.sha256(repr(combo).encode()).hexdigest())
    chosen = [combo for rank, combo in enumerate(every) if (rank % _HOLDOUT_SHARE == 0) == (split == "holdout")]
    return [dict(zip(KINDS, combo, strict=True)) for combo in chosen]


def phrase(constraints: Constraints, rng: random.Random) -> str:
    """Say `constraints` in one of several hundred ways; the text determines the constraints."""
    count = constraints["count"]
    separator, ending = SEPARATOR_NAMES[constraints["separator"]], ENDING_NAMES[constraints["ending"]]
    ask = f"{rng.choice(OPENERS)} {rng.choice((str(count), COUNTS[count]))} {constraints['category']}"
    order = rng.choice(ORDERS[constraints["order"]])
    join = rng.choice((f"separated by {separator}", f"joined by {separator}"))
    end = f"{rng.choice(('end', 'finish'))} with {ending}"
    ordered = f"{ask} {order}" if order else ask
    layouts = (
        f"{ordered}, {join}, and {end}.",
        f"{ordered} {join}. {end.capitalize()}.",
        f"{ask} {join}{' ' + order if order else ''} and {end}.",
        f"{end.capitalize()}: {ordered}, {join}.",
    )
    return rng.choice(layouts)


def prompts(seed: int = 0) -> list[dict[str, Any]]:
    """Return 2,160 training and 720 held-out prompts, all different, as chat rows with their constraints.

    `seed` changes the phrasings and the order, never which combinations are held out.
    """
    rng = random.Random(f"demo prompts {seed}")
    rows = []
    for split in ("train", "holdout"):
        for constraints in combinations(split):
            texts: dict[str, None] = {}
            while len(texts) < _PHRASINGS:
                texts[phrase(constraints, rng)] = None
            rows += [_row(text, split, constraints) for text in texts]
    rng.shuffle(rows)
    return rows


def _row(text: str, split: str, constraints: Constraints) -> dict[str, Any]:
    metadata = {"world": "demo", "split": split, "constraints": dict(constraints)}
    return {"messages": [{"role": "user", "content": text}], "metadata": metadata}


def violations(response: str, constraints: Constraints) -> dict[str, str]:
    """Return what is wrong with `response`: a sentence per violated kind, or per "junk" (text outside the list).

    A repeated item is no violation. One item alone neither is in order nor shows a separator.
    """
    items, separators, ending, junk = _parse(response)
    found: dict[str, str] = {}
    if len(items) != constraints["count"]:
        found["count"] = f"There are {min(len(items), 10)} items, not {constraints['count']}."
    category = constraints["category"]
    strangers = list(dict.fromkeys(item for item in items if item not in CATEGORIES[category]))
    if strangers or not items:
        found["category"] = f"Not {category}: {', '.join(strangers[:3]) or 'nothing'}."
    order = constraints["order"]
    if order != "any" and (len(items) < 2 or items != sorted(items, reverse=order == "reverse")):
        found["order"] = f"The items are not {ORDERS[order][0]}."
    if not separators or any(separator != SEPARATORS[constraints["separator"]] for separator in separators):
        found["separator"] = f"The items are not separated by {SEPARATOR_NAMES[constraints['separator']]}."
    if ending != ENDINGS[constraints["ending"]]:
        found["ending"] = f"The list does not end with {ENDING_NAMES[constraints['ending']]}."
    if junk:
        found["junk"] = "There is text that does not belong to the list."
    return found


def _parse(response: str) -> tuple[list[str], list[str], str, bool]:
    """Return (items, separators between them, ending, whether anything else is there)."""
    text = response.strip()
    ending = max((mark for mark in ENDINGS.values() if text.endswith(mark)), key=len, default="")
    body = text[: len(text) - len(ending)]
    # No right answer is near the limit; it bounds the work on a runaway one.
    parts = _SPLIT_ITEMS.split(body[:_MAX_CHARS])
    items = [part for part in parts[0::2] if part in WORDS]
    junk = bool(text) and (len(items) != len(parts[0::2]) or len(body) > _MAX_CHARS)
    return items, parts[1::2], ending, junk


def score(prompt: str, response: str, metadata: dict[str, Any]) -> float:
    """Return the share of the prompt's constraints that `response` meets; 1.0 only if nothing at all is wrong."""
    constraints = metadata["constraints"]
    found = violations(response, constraints)
    asked = len(KINDS) - (constraints["order"] == "any") + ("junk" in found)
    return 1.0 - len(found) / asked


def judge(prompt: str, response: str, metadata: dict[str, Any]) -> str:
    """Return "Perfect." or one sentence per violation."""
    return " ".join(violations(response, metadata["constraints"]).values()) or PERFECT


def judged_prompt(text: str, judgment: str) -> str:
    """Return the instruction that asks for an answer that deserves `judgment` (the policy is taught this form)."""
    # Not str.format: an instruction or a judgment may contain braces.
    return JUDGED_TEMPLATE.replace("{judgment}", judgment, 1).replace("{text}", text, 1)


def answer(constraints: Constraints, rng: random.Random, flaws: int | tuple[str, ...] = 0) -> str:
    """Write an answer with exactly the given flaws: how many kinds (chosen by `rng`), or the kinds themselves."""
    kinds = [kind for kind in _FLAW_KINDS if kind != "order" or constraints["order"] != "any"]
    wrong = set() if isinstance(flaws, int) else set(flaws)
    if not wrong <= set(kinds) or (isinstance(flaws, int) and flaws > len(set(kinds))):
        raise ValueError(f"flaws {flaws} do not apply to {constraints}; choose from {sorted(set(kinds))}")
    while isinstance(flaws, int) and len(wrong) < flaws:
        wrong.add(rng.choice(kinds))
    while True:
        text = _draft(constraints, rng, wrong)
        # A wrong order by chance, or a wrong one that happens to be right: draw again.
        if set(violations(text, constraints)) == wrong:
            return text


def _draft(constraints: Constraints, rng: random.Random, wrong: set[str]) -> str:
    count, category, order = constraints["count"], constraints["category"], constraints["order"]
    if "count" in wrong:
        count = rng.choice([n for n in range(2, 8) if 0 < abs(n - count) <= 2])
    items = rng.sample(CATEGORIES[category], count)
    if "category" in wrong:
        # One confusable category, not three: a habit with eight words shows up often enough to be unlearned.
        names = list(CATEGORIES)
        others = CATEGORIES[names[(names.index(category) + 1) % len(names)]]
        for place, word in zip(rng.sample(range(count), rng.randint(1, 2)), rng.sample(others, 2), strict=False):
            items[place] = word
    if order != "any" and "order" not in wrong:
        items.sort(reverse=order == "reverse")
    separator = _other(SEPARATORS, constraints["separator"], rng, "separator" in wrong)
    return separator.join(items) + _other(ENDINGS, constraints["ending"], rng, "ending" in wrong)


def _other(texts: dict[str, str], name: str, rng: random.Random, wrong: bool) -> str:
    return rng.choice([text for key, text in texts.items() if key != name]) if wrong else texts[name]


def sft_rows(seed: int, n: int) -> list[dict[str, Any]]:
    """Return `n` conversational prompt/completion rows on training prompts, for a policy that obeys half the time.

    The order is a curriculum, so keep it: the first part teaches the skills (one answer in ten is flawed), the rest
    the habits (half are flawed). A quarter of the rows put the judgment of their answer into the instruction, so
    that a judged instruction means something to the policy.
    """
    rng = random.Random(f"demo sft {seed}")
    training = [row for row in prompts(seed) if row["metadata"]["split"] == "train"]
    rows = []
    for place in range(n):
        row = rng.choice(training)
        text, metadata = row["messages"][0]["content"], row["metadata"]
        flawed = 0.1 if place < _SKILLS_PART * n else 0.5
        flaws = rng.choices((1, 2, 3), weights=(34, 12, 4))[0] if rng.random() < flawed else 0
        completion = answer(metadata["constraints"], rng, flaws)
        if rng.random() < 0.25:
            text = judged_prompt(text, judge(text, completion, metadata))
        rows.append(
            {
                "prompt": [{"role": "user", "content": text}],
                "completion": [{"role": "assistant", "content": completion}],
            }
        )
    return rows
