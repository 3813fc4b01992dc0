"""Datasets on the demo world's training prompts, for offline rounds, and reference answers (targets) for its prompts.

A target is what the demo policy's SFT data answer first: nine in ten are without fault, where the policy itself is
right about half of the time. Held-out prompts are not in these data; their targets are written with the same odds.
Everything is a pure function of its arguments.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Literal, get_args

from rayalign.data.dataset import Completion, DatasetRow
from rayalign.demo import world
from rayalign.demo.training_rows import SFT_ROWS
from rayalign.errors import DataError
from rayalign.records import JsonObject

Kind = Literal["preference", "ultrafeedback", "judgments"]
"""Formats of the same names: a chosen and a rejected answer; scored answers; an answer with its judgment."""

_FLAWED_TARGETS = 0.1
_SCORED_ANSWERS = 4


def prompts_with_targets(seed: int = 0) -> list[JsonObject]:
    """`world.prompts`, each with a `target`."""
    first: dict[str, str] = {}
    for row in world.sft_rows(seed, SFT_ROWS):
        first.setdefault(row["prompt"][0]["content"], row["completion"][0]["content"])
    return [{**row, "target": first.get(_text(row)) or _written_target(row)} for row in world.prompts(seed)]


def demo_dataset(kind: str, seed: int = 0) -> list[DatasetRow]:
    """One row per training prompt.

    Raises:
        DataError: there is no such kind.
    """
    if kind not in get_args(Kind):
        raise DataError(
            f"samples.format {kind} of samples.source demo",
            "the demo world has no such data",
            f"use one of {', '.join(get_args(Kind))}",
        )
    rows = [row for row in prompts_with_targets(seed) if row["metadata"]["split"] == "train"]
    return [
        DatasetRow(row["messages"], _COMPLETIONS[kind](row, _rng(kind, row)), row["target"], row["metadata"])
        for row in rows
    ]


def _preference(row: JsonObject, rng: random.Random) -> list[Completion]:
    """The target, and an answer with more faults."""
    constraints = row["metadata"]["constraints"]
    rejected = world.answer(constraints, rng, min(4, len(world.violations(row["target"], constraints)) + 1))
    return [Completion(row["target"], 1.0), Completion(rejected, 0.0)]


def _rewards(row: JsonObject, rng: random.Random) -> list[Completion]:
    """Answers of none to three faults, scored by the rule."""
    metadata = row["metadata"]
    texts = [world.answer(metadata["constraints"], rng, flaws) for flaws in range(_SCORED_ANSWERS)]
    rng.shuffle(texts)
    return [Completion(text, world.score("", text, metadata)) for text in texts]


def _judgments(row: JsonObject, rng: random.Random) -> list[Completion]:
    """One answer, flawed or not at even odds; no judgment where it is without fault."""
    metadata = row["metadata"]
    text = world.answer(metadata["constraints"], rng, rng.choice((0, 1)))
    judgment = world.judge("", text, metadata)
    if judgment == world.PERFECT:
        return [Completion(text, verdict="perfect")]
    return [Completion(text, judgment=judgment, verdict="flawed")]


_COMPLETIONS: dict[str, Callable[[JsonObject, random.Random], list[Completion]]] = {
    "preference": _preference,
    "ultrafeedback": _rewards,
    "judgments": _judgments,
}


def _written_target(row: JsonObject) -> str:
    rng = _rng("target", row)
    return world.answer(row["metadata"]["constraints"], rng, int(rng.random() < _FLAWED_TARGETS))


def _rng(purpose: str, row: JsonObject) -> random.Random:
    return random.Random(f"demo {purpose} {_text(row)}")


def _text(row: JsonObject) -> str:
    return row["messages"][0]["content"]
