"""The answers that a report holds itself: a stated selection, since a page that opens from a file cannot ask for more.

The worst, the best and the most changed prompts of the last round, and some by chance, in turns, until it is full.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from itertools import zip_longest
from typing import TypeVar

from rayalign.dashboard.answer_query import Query, Sort
from rayalign.dashboard.answers import PURPOSES, AnswerStore
from rayalign.dashboard.readings import cut
from rayalign.records import JsonObject
from rayalign.store.saved_run import SavedRun

T = TypeVar("T")
LARGEST = 5_000_000
"""Bytes of JSON at most."""
SHARES = {"evaluation": 0.6, "greedy": 0.1, "train": 0.3}
"""Of the size, to each purpose at most; what one leaves goes to those after it."""
PER_REASON = 16
"""Prompts at most by each way of choosing them."""
FEW = 100
"""So many prompts are all chosen."""
MOST_ROUNDS = {"evaluation": 12, "greedy": 12, "train": 5}
"""Rounds at most; all rounds have the same held-out prompts, but each trains on others."""
LONGEST_VIEW = 400_000
"""Bytes of all answers to one prompt that the page holds."""


def embedded(run: SavedRun, largest: int = LARGEST) -> JsonObject:
    """What the page's script reads: facets, and for each purpose the views of the chosen prompts.

    Args:
        largest: bytes of JSON at most.
    """
    store = AnswerStore(run)
    facets = store.facets()
    rows: dict[str, list[JsonObject]] = {}
    left, notes = float(largest - _size(facets)), []
    for purpose in PURPOSES:
        if purpose not in facets["rounds"]:
            continue
        later = [one for one in facets["rounds"] if PURPOSES.index(one) >= PURPOSES.index(purpose)]
        limit = left * SHARES[purpose] / sum(SHARES[one] for one in later)
        rounds = facets["rounds"][purpose]
        shown = rounds[-MOST_ROUNDS[purpose] :] if purpose == "train" else _evenly(rounds, MOST_ROUNDS[purpose])
        rows[purpose], size = _fitting(store, purpose, shown, limit)
        left -= size
        notes.append(f"{len(rows[purpose])} of {facets['total'][purpose]} {purpose} prompts")
    note = _note(notes, rows, facets)
    there = {purpose: _rounds_in(views) for purpose, views in rows.items()}
    facets |= {"rounds": there, "problems": store.problems, "note": note}
    return {
        "mode": "file",
        "run": store.run.name,
        "facets": facets,
        "rows": rows,
    }


def _rounds_in(views: list[JsonObject]) -> list[int]:
    return sorted({one["round"] for view in views for one in view["rounds"]})


def _note(notes: list[str], rows: dict[str, list[JsonObject]], facets: JsonObject) -> str | None:
    """What the selection is; None where it leaves nothing out."""
    whole = all(
        len(views) == facets["total"][purpose] and _rounds_in(views) == facets["rounds"][purpose]
        for purpose, views in rows.items()
    )
    if whole and not any("cut" in view for views in rows.values() for view in views):
        return None
    return (
        f"This page holds {', '.join(notes)}: the worst, the best and the most changed ones of the last round, and "
        "some by chance. Long texts are cut, and of many rounds some are left out. `rayalign serve` shows all."
    )


def _fitting(store: AnswerStore, purpose: str, rounds: Sequence[int], limit: float) -> tuple[list[JsonObject], int]:
    """Views of chosen prompts within so many bytes, and their size."""
    found: list[JsonObject] = []
    size = 0
    for view in store.views(_chosen(store, purpose), purpose, rounds):
        short = _shortened(view)
        if size + (more := _size(short)) > limit:
            continue
        found.append(short)
        size += more
    return found, size


def _chosen(store: AnswerStore, purpose: str) -> list[str]:
    """Ids by each way of choosing in turns, none twice, so that whatever has to be left out leaves some of each."""
    sorts: tuple[Sort, ...] = ("regression", "gain", "reward", "spread", "disagreement")
    ways = [_first(store, Query(purpose=purpose, sort=sort, size=PER_REASON)) for sort in sorts]
    every = store.ranked(purpose)
    ways.append(every[::-1][:PER_REASON])
    by_chance = sorted(every)
    random.Random(0).shuffle(by_chance)
    ways.append(by_chance if len(every) <= FEW else by_chance[:PER_REASON])
    return list(dict.fromkeys(one for some in zip_longest(*ways) for one in some if one is not None))


def _first(store: AnswerStore, query: Query) -> list[str]:
    return [row["id"] for row in store.list(query)["rows"]]


def _shortened(view: JsonObject) -> JsonObject:
    """A view with long texts, and of very many answers some, which `cut` says."""
    rounds = view["rounds"]
    answers = [[_short_answer(answer) for answer in one["answers"]] for one in rounds]
    kept = [{"round": one["round"], "answers": some} for one, some in zip(rounds, answers, strict=True)]
    messages = [{**message, "content": cut(message["content"])} for message in view["messages"]]
    target = None if view["target"] is None else cut(view["target"])
    short = {**view, "messages": messages, "target": target, "rounds": kept}
    while _size(short) > LONGEST_VIEW and max(len(one["answers"]) for one in kept) > 2:
        for one in kept:
            one["answers"] = _evenly(one["answers"], max(2, len(one["answers"]) // 2))
    return short if short == view else {**short, "cut": True}


def _short_answer(answer: JsonObject) -> JsonObject:
    scores = {
        name: {**one, "text": None if one["text"] is None else cut(one["text"])}
        for name, one in answer["scores"].items()
    }
    return {**answer, "text": cut(answer["text"]), "scores": scores}


def _evenly(some: Sequence[T], count: int) -> list[T]:
    """At most `count` of a list, the first and the last among them."""
    if len(some) <= count:
        return list(some)
    return [some[place * (len(some) - 1) // (count - 1)] for place in range(count)]


def _size(value: object) -> int:
    """Bytes of a value as JSON, with what is not ASCII escaped."""
    return len(json.dumps(value))
