"""What a query of the sample browser means, as a table: answers in, ids of prompts out.

Two programs answer these queries, the server by SQL (`dashboard/answers.py`) and the page itself in JavaScript, and the
tests of both go through this table. In words:

* A prompt is listed where `round` has an answer to it. No `purpose` means evaluation, no `round` the last one that the
  purpose has, no `baseline` the first one; an empty parameter is no parameter. A round that is not there lists nothing.
* `reward` is the mean of the combined rewards of its answers in `round`, of those that have one, and null without any;
  `baseline` the same in the baseline round; `delta` = reward - baseline, null where one of them is.
* `best`, `worst` over the rewards that are there, `spread` = best - worst; `equal`: two rewards or more, all the same.
* `disagreement`: of the pairs of its answers that two scorers or more put in an order (no ties), the share that two of
  them put in opposite orders; null where there is no such pair.
* `length`: mean number of tokens. `statuses`: scores per status, over answers and scorers, without zeros.
* `sort`: regression (default; delta upwards), gain (delta downwards), disagreement, spread, length and reward (all
  downwards), prompt (the text upwards, by code points). Nulls come last, equals by id upwards.
* `q`: the text, as it is and in any case, stands in a message of the prompt or in an answer of `round`.
* `min`, `max` (both inclusive): the mean reward that `scorer` gave where its status is ok, or without `scorer` the
  combined one; null is outside. `status`: at least one score in `round`, by `scorer` if there is one, has it. `scorer`
  alone filters nothing.
* `meta`: "key=value", split at the first "="; all of them must hold. A value's text is itself, of a number or boolean
  as in JSON (a whole number without a point), of null "null"; lists and objects match nothing.
* `page` counts from 0, `size` is 50 unless given and at most 200; a page after the last is empty.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

APPLE, BREAD, CHESS, DWARF, ELBOW = (f"{letter}000000000000000"[:16] for letter in "abcde")

PROMPTS: dict[str, dict[str, Any]] = {
    APPLE: {"text": "Name a fruit.", "metadata": {"topic": "food", "level": 1}},
    BREAD: {"text": "How is bread baked? 100% rye", "metadata": {"topic": "food", "level": 2, "hard": True}},
    CHESS: {"text": "Who moves first in chess?", "metadata": {"topic": "games", "level": 1.5, "tags": ["a"]}},
    DWARF: {"text": "Écris un mot_court.", "metadata": {"topic": "a=b", "source": None}},
    ELBOW: {"text": "<script>alert(1)</script>", "metadata": {}},
}
SCORERS = ("rule", "judge")


@dataclass(frozen=True)
class Answer:
    """One answer of the table. `scores`: of each scorer status and reward."""

    round: int
    prompt: str
    index: int
    text: str
    tokens: int
    reward: float | None
    scores: tuple[tuple[str, float | None], tuple[str, float | None]]


def _ok(rule: float, judge: float) -> tuple[tuple[str, float | None], tuple[str, float | None]]:
    return (("ok", rule), ("ok", judge))


ANSWERS = (
    # Round 0. APPLE .5, BREAD 1, CHESS .25, DWARF none, ELBOW 0.
    Answer(0, APPLE, 0, "apple", 2, 0.5, _ok(0.5, 0.5)),
    Answer(0, APPLE, 1, "pear", 4, 0.5, _ok(0.5, 0.5)),
    Answer(0, BREAD, 0, "in an oven", 3, 1.0, _ok(1.0, 1.0)),
    Answer(0, BREAD, 1, "in the Oven, old word", 5, 1.0, _ok(1.0, 1.0)),
    Answer(0, CHESS, 0, "white", 1, 0.5, _ok(0.5, 0.5)),
    Answer(0, CHESS, 1, "black", 1, 0.0, _ok(0.0, 0.0)),
    Answer(0, DWARF, 0, "nain", 2, None, (("error", None), ("timeout", None))),
    Answer(0, DWARF, 1, "mot", 2, None, (("error", None), ("ok", 0.5))),
    Answer(0, ELBOW, 0, "no", 1, 0.0, _ok(0.0, 0.0)),
    Answer(0, ELBOW, 1, "none", 1, 0.0, _ok(0.0, 0.0)),
    # Round 1. APPLE .75 (+.25), BREAD .5 (-.5), CHESS .25 (0), DWARF .5 (no baseline), ELBOW none.
    Answer(1, APPLE, 0, "an apple", 4, 1.0, _ok(1.0, 0.0)),
    Answer(1, APPLE, 1, "a pear", 8, 0.5, _ok(0.0, 1.0)),
    Answer(1, BREAD, 0, "50% flour", 10, 0.5, _ok(0.5, 0.75)),
    Answer(1, BREAD, 1, "yeast", 20, 0.5, _ok(0.5, 0.25)),
    Answer(1, CHESS, 0, "White does", 3, 0.25, _ok(0.25, 0.5)),
    Answer(1, CHESS, 1, "a_b", 3, 0.25, (("ok", 0.25), ("abstain", None))),
    Answer(1, DWARF, 0, "ÉTÉ", 5, 0.5, _ok(0.5, 0.5)),
    Answer(1, DWARF, 1, "nul\\x", 5, None, (("error", None), ("ok", 1.0))),
    Answer(1, ELBOW, 0, 'it\'s "it"', 6, None, (("error", None), ("error", None))),
    Answer(1, ELBOW, 1, "שלום", 2, None, (("timeout", None), ("error", None))),
)

Params = dict[str, str | list[str]]
"""Parameters as in a URL; a list where one is repeated."""


@dataclass(frozen=True)
class Case:
    """A query and what it lists. `total`: of all pages; null where it is the number of `ids`."""

    name: str
    params: Params
    ids: list[str]
    total: int | None = field(default=None)


CASES = (
    Case("nothing asked", {}, [BREAD, CHESS, APPLE, DWARF, ELBOW]),
    Case("empty is nothing", {"q": "", "round": "", "scorer": "", "min": ""}, [BREAD, CHESS, APPLE, DWARF, ELBOW]),
    Case("gain", {"sort": "gain"}, [APPLE, CHESS, BREAD, DWARF, ELBOW]),
    Case("reward", {"sort": "reward"}, [APPLE, BREAD, DWARF, CHESS, ELBOW]),
    Case("reward of round 0", {"sort": "reward", "round": "0"}, [BREAD, APPLE, CHESS, ELBOW, DWARF]),
    Case("against itself", {"round": "1", "baseline": "1"}, [APPLE, BREAD, CHESS, DWARF, ELBOW]),
    Case("backwards", {"round": "0", "baseline": "1"}, [APPLE, CHESS, BREAD, DWARF, ELBOW]),
    Case("no such round", {"round": "7"}, []),
    Case("no such baseline", {"baseline": "7"}, [APPLE, BREAD, CHESS, DWARF, ELBOW]),
    Case("no such purpose", {"purpose": "greedy"}, []),
    # APPLE's two answers are ordered oppositely; BREAD is a tie by the rule; the rest has one score or equal ones.
    Case("disagreement", {"sort": "disagreement"}, [APPLE, BREAD, CHESS, DWARF, ELBOW]),
    Case("spread", {"sort": "spread"}, [APPLE, BREAD, CHESS, DWARF, ELBOW]),
    Case("spread of round 0", {"sort": "spread", "round": "0"}, [CHESS, APPLE, BREAD, ELBOW, DWARF]),
    Case("length", {"sort": "length"}, [BREAD, APPLE, DWARF, ELBOW, CHESS]),
    Case("prompt", {"sort": "prompt"}, [ELBOW, BREAD, APPLE, CHESS, DWARF]),
    Case("in an answer", {"q": "pear"}, [APPLE]),
    Case("in a prompt", {"q": "FRUIT"}, [APPLE]),
    Case("other rounds do not count", {"q": "oven"}, []),
    Case("in that round", {"q": "oVEN", "round": "0"}, [BREAD]),
    Case("case beyond ASCII", {"q": "été"}, [DWARF]),
    Case("percent is a sign", {"q": "%"}, [BREAD]),
    Case("underscore is a sign", {"q": "_"}, [CHESS, DWARF]),
    Case("backslash is a sign", {"q": "\\x"}, [DWARF]),
    Case("quotes", {"q": 'it\'s "it"'}, [ELBOW]),
    Case("right to left", {"q": "שלום"}, [ELBOW]),
    Case("markup", {"q": "<script>"}, [ELBOW]),
    Case("inner spaces stay", {"q": "a  pear"}, []),
    Case("min", {"min": "0.5"}, [BREAD, APPLE, DWARF]),
    Case("max", {"max": "0.5"}, [BREAD, CHESS, DWARF]),
    Case("min and max", {"min": "0.25", "max": "0.25"}, [CHESS]),
    # The rule's means: APPLE .5, BREAD .5, CHESS .25, DWARF .5, ELBOW none.
    Case("min of a scorer", {"scorer": "rule", "min": "0.5"}, [BREAD, APPLE, DWARF]),
    # The judge's: APPLE .5, BREAD .5, CHESS .5, DWARF .75, ELBOW none.
    Case("max of a scorer", {"scorer": "judge", "max": "0.5"}, [BREAD, CHESS, APPLE]),
    Case("a scorer alone", {"scorer": "judge"}, [BREAD, CHESS, APPLE, DWARF, ELBOW]),
    Case("a scorer that is not there", {"scorer": "nobody", "min": "0"}, []),
    Case("status", {"status": "error"}, [DWARF, ELBOW]),
    Case("status of a scorer", {"status": "error", "scorer": "judge"}, [ELBOW]),
    Case("status abstain", {"status": "abstain"}, [CHESS]),
    Case("status ok", {"status": "ok"}, [BREAD, CHESS, APPLE, DWARF]),
    Case("metadata", {"meta": ["topic=food"]}, [BREAD, APPLE]),
    Case("metadata, twice", {"meta": ["topic=food", "level=1"]}, [APPLE]),
    Case("metadata, a fraction", {"meta": ["level=1.5"]}, [CHESS]),
    Case("metadata, a boolean", {"meta": ["hard=true"]}, [BREAD]),
    Case("metadata, null", {"meta": ["source=null"]}, [DWARF]),
    Case("metadata with an equals sign", {"meta": ["topic=a=b"]}, [DWARF]),
    Case("metadata, a list", {"meta": ["tags=a"]}, []),
    Case("metadata that nobody has", {"meta": ["nothing="]}, []),
    Case("all together", {"q": "a", "meta": ["topic=food"], "min": "0.6", "sort": "gain", "status": "ok"}, [APPLE]),
    Case("first page", {"size": "2"}, [BREAD, CHESS], 5),
    Case("second page", {"size": "2", "page": "1"}, [APPLE, DWARF], 5),
    Case("last page", {"size": "2", "page": "2"}, [ELBOW], 5),
    Case("after the last page", {"size": "2", "page": "3"}, [], 5),
)

ROWS: dict[str, dict[str, Any]] = {
    APPLE: {"prompt": "Name a fruit.", "reward": 0.75, "baseline": 0.5, "delta": 0.25, "best": 1.0, "worst": 0.5}
    | {"spread": 0.5, "equal": False, "disagreement": 1.0, "length": 6.0, "answers": 2, "statuses": {"ok": 4}},
    BREAD: {"prompt": "How is bread baked? 100% rye", "reward": 0.5, "baseline": 1.0, "delta": -0.5, "best": 0.5}
    | {"worst": 0.5, "spread": 0.0, "equal": True, "disagreement": None, "length": 15.0, "answers": 2}
    | {"statuses": {"ok": 4}},
    CHESS: {"prompt": "Who moves first in chess?", "reward": 0.25, "baseline": 0.25, "delta": 0.0, "best": 0.25}
    | {"worst": 0.25, "spread": 0.0, "equal": True, "disagreement": None, "length": 3.0, "answers": 2}
    | {"statuses": {"ok": 3, "abstain": 1}},
    DWARF: {"prompt": "Écris un mot_court.", "reward": 0.5, "baseline": None, "delta": None, "best": 0.5, "worst": 0.5}
    | {"spread": 0.0, "equal": False, "disagreement": None, "length": 5.0, "answers": 2}
    | {"statuses": {"ok": 3, "error": 1}},
    ELBOW: {"prompt": "<script>alert(1)</script>", "reward": None, "baseline": 0.0, "delta": None, "best": None}
    | {"worst": None, "spread": None, "equal": False, "disagreement": None, "length": 4.0, "answers": 2}
    | {"statuses": {"error": 3, "timeout": 1}},
}
"""What the rows of round 1 say, by id."""


def views() -> list[dict[str, Any]]:
    """The table's prompts in the form in which a page holds them (of purpose evaluation)."""
    return [_view(one) for one in PROMPTS]


def _view(prompt: str) -> dict[str, Any]:
    rounds = []
    for index in (0, 1):
        found = [answer for answer in ANSWERS if (answer.round, answer.prompt) == (index, prompt)]
        best_first = sorted(found, key=lambda one: (one.reward is None, -(one.reward or 0.0), one.index))
        rounds.append({"round": index, "answers": [_answer(one) for one in best_first]})
    messages = [{"role": "user", "content": PROMPTS[prompt]["text"]}]
    metadata = PROMPTS[prompt]["metadata"]
    return {"id": prompt, "messages": messages, "target": None, "metadata": metadata, "rounds": rounds}


def _answer(answer: Answer) -> dict[str, Any]:
    return {
        "index": answer.index,
        "text": answer.text,
        "reward": answer.reward,
        "tokens": answer.tokens,
        "finish": "stop",
        "version": answer.round,
        "scores": {
            name: {"reward": reward, "status": status, "reason": None, "text": None, "verdict": None}
            for name, (status, reward) in zip(SCORERS, answer.scores, strict=True)
        },
        "flags": None,
        "ratios": None,
    }
