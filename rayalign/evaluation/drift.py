"""Drift of the scorers: the same few answers, scored again every round, against what they got the first time."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NotRequired, TypedDict

from rayalign.evaluation.canaries import score_value
from rayalign.evaluation.statistics import clustered_mean
from rayalign.records import Score, ScoredSample

ANSWERS_PER_PROMPT = 2
"""More than one, so that a judge that compares has something to compare."""
ALARM_SPREAD = 0.1
"""Share of the spread of an anchor's scores by which they may move. Moves of a tenth of a standard deviation on average
(normal ones, of 0.125 standard deviations) put atan(0.125) / pi = 4 % of all pairs of answers into another order."""
SAME = 1e-6
"""Relative difference that another order of summation makes."""


@dataclass(frozen=True, slots=True)
class Move:
    """One anchor under one scorer."""

    prompt_id: str
    before: Score
    """Its score in the first round."""
    again: Score
    """Its score when it was scored a second time in the first round."""
    now: Score


class DriftFacts(TypedDict):
    """How far the anchors' scores under one scorer moved; `drift` says what each value is."""

    compared: int
    missing: int
    spread: NotRequired[float]
    mean_change: NotRequired[float]
    noise: NotRequired[float]
    changed: NotRequired[float]
    changed_noise: NotRequired[float]
    alarm: bool


def drift(
    before: Sequence[ScoredSample], again: Sequence[ScoredSample], now: Sequence[ScoredSample], *, seed: int
) -> dict[str, DriftFacts]:
    """Per scorer, how far the anchors' scores moved.

    * `compared`: anchors with a value in all three, from one version of the scorer; `missing`: the others.
    * `mean_change`: mean |now - before| (a verdict counts 1 or 0), and `noise`, mean |again - before|: what asking
      twice in the first round changes.
    * `changed`: share of the anchors whose verdict, or reward without one, is another; `changed_noise` likewise.
    * `spread`: standard deviation of the anchors' scores the first time.
    * `alarm`: `mean_change` exceeds `noise` by more than `ALARM_SPREAD` of the spread, and the 95 % interval of that
      excess, over prompts, lies above 0.

    Args:
        before, again, now: the same anchors in the same order.
    """
    found: dict[str, list[Move]] = {score.scorer: [] for row in now for score in row.scores}
    for one, two, three in zip(before, again, now, strict=True):
        first, second = ({score.scorer: score for score in row.scores} for row in (one, two))
        for score in three.scores:
            earlier = [scores[score.scorer] for scores in (first, second) if score.scorer in scores]
            if [score.scorer_version] * 2 == [other.scorer_version for other in earlier]:
                found[score.scorer].append(Move(one.sample.prompt_id, earlier[0], earlier[1], score))
    return {scorer: _drift(moves, len(now), seed) for scorer, moves in found.items()}


def _drift(moves: Sequence[Move], anchors: int, seed: int) -> DriftFacts:
    known = []
    for move in moves:
        values = [score_value(score) for score in (move.before, move.again, move.now)]
        numbers = [value for value in values if value is not None]
        if len(numbers) == 3:
            known.append((move, *numbers))
    if not known:
        return {"compared": 0, "missing": anchors, "alarm": False}
    prompts = [move.prompt_id for move, *_ in known]
    change, noise = [abs(c - a) for _, a, _, c in known], [abs(b - a) for _, a, b, _ in known]
    changed = [_differ(move.before, move.now) for move, *_ in known]
    changed_noise = [_differ(move.before, move.again) for move, *_ in known]
    spread = statistics.pstdev([a for _, a, _, _ in known])
    excess = clustered_mean([c - n for c, n in zip(change, noise, strict=True)], prompts, seed=seed)
    return {
        "compared": len(known),
        "missing": anchors - len(known),
        "spread": spread,
        "mean_change": statistics.fmean(change),
        "noise": statistics.fmean(noise),
        "changed": statistics.fmean(changed),
        "changed_noise": statistics.fmean(changed_noise),
        "alarm": excess.value > ALARM_SPREAD * spread and excess.ci95[0] > 0,
    }


def _differ(one: Score, other: Score) -> float:
    if one.verdict is not None or other.verdict is not None:
        return float(one.verdict != other.verdict)
    a, b = score_value(one), score_value(other)
    if a is None or b is None:
        return float(a is not b)
    return float(abs(a - b) > SAME * max(1.0, abs(a), abs(b)))
