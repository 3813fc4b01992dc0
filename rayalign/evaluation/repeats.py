"""A judge that is asked several times about the same answers: how far its replies differ, and what that adds.

    values of each answer ─► mean over repeats ─► mean over prompts, with its interval ─┐
    mean of each repeat ─► what they differ by beyond the noise of single replies ──────┴─► a wider interval

The noise of single replies is part of what prompts differ by, so that the interval over prompts holds it already. What
all replies of a repeat have in common is not, and is added.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from rayalign.evaluation.statistics import FloatArray, clustered_mean, student
from rayalign.records import Metric, ScoredSample

Values = Sequence[float | None]
"""One value per answer of one repeat, None where there is none."""


class RepeatFacts(TypedDict):
    """What `repeat_facts` says of one scorer."""

    answers: int
    means: list[float]
    spread: float
    changed: float


def repeated_mean(
    values_RN: Sequence[Values], clusters: Sequence[str], *, seed: int, share: bool = False, n: int | None = None
) -> Metric:
    """The mean over prompts and repeats, with a 95 % interval for other prompts and another call of the judge.

    Args:
        values_RN: [repeats][answers], in one order; a missing value is left out, and so is an answer of missing ones.
        clusters: the prompt of each answer.
        share, n: as for `clustered_mean`.

    Raises:
        ValueError: as `clustered_mean`.
    """
    known_NR = [[value for value in column if value is not None] for column in zip(*values_RN, strict=True)]
    kept = [place for place, known in enumerate(known_NR) if known]
    prompts = [clusters[place] for place in kept]
    means = [math.fsum(known_NR[place]) / len(known_NR[place]) for place in kept]
    metric = clustered_mean(means, prompts, seed=seed, share=share, n=n)
    whole = [place for place in kept if len(known_NR[place]) == len(values_RN)]
    if len(values_RN) < 2 or len({clusters[place] for place in whole}) < 2:
        return metric
    values_NR = np.array([known_NR[place] for place in whole], dtype=np.float64)
    between = _between(_per_prompt(values_NR, [clusters[place] for place in whole]))
    return _widened(metric, between, len(values_RN), len(set(prompts)), share)


def repeat_facts(rows_RN: Sequence[Sequence[ScoredSample]], scorers: Collection[str]) -> dict[str, RepeatFacts]:
    """Per scorer, over the answers that it gave a reward each time; one that did so for none is left out.

    * `answers`: how many these are; `means`: their mean reward each time.
    * `spread`: standard deviation of an answer's rewards over the repeats, on average over answers.
    * `changed`: share of the answers whose rewards are not all the same.

    Args:
        rows_RN: the same rows of each repeat.
        scorers: names of those that were asked again.
    """
    found: dict[str, RepeatFacts] = {}
    for name in scorers:
        columns = zip(*([reward_of(row, name) for row in rows] for rows in rows_RN), strict=True)
        values_NR = np.array([column for column in columns if None not in column], dtype=np.float64)
        if len(values_NR):
            found[name] = {
                "answers": len(values_NR),
                "means": values_NR.mean(axis=0).tolist(),
                "spread": float(values_NR.std(axis=1, ddof=1).mean()),
                "changed": float(np.ptp(values_NR, axis=1).astype(bool).mean()),
            }
    return found


def reward_of(row: ScoredSample, scorer: str) -> float | None:
    """What one scorer gave an answer; None where it gave nothing."""
    return next((score.reward for score in row.scores if score.scorer == scorer and score.status == "ok"), None)


@dataclass(frozen=True, slots=True)
class _Between:
    """Variance of a mean over repeats that comes from what all replies of a repeat have in common."""

    variance: float
    freedom: int


def _per_prompt(values_NR: FloatArray, prompts: Sequence[str]) -> FloatArray:
    """[prompts, repeats] means."""
    places = {prompt: place for place, prompt in enumerate(sorted(set(prompts)))}
    prompt_N = np.array([places[prompt] for prompt in prompts])
    sums_CR = np.zeros((len(places), values_NR.shape[1]))
    np.add.at(sums_CR, prompt_N, values_NR)
    return np.asarray(sums_CR / np.bincount(prompt_N)[:, None])


def _between(means_CR: FloatArray) -> _Between:
    """The part of a two-way analysis of variance (prompts, repeats) that repeats have beyond the residuals."""
    prompts, repeats = means_CR.shape
    column_R = means_CR.mean(axis=0)
    residual_CR = means_CR - means_CR.mean(axis=1, keepdims=True) - column_R + column_R.mean()
    noise = float(np.sum(residual_CR**2)) / ((prompts - 1) * (repeats - 1)) / prompts
    return _Between(max(0.0, float(column_R.var(ddof=1)) - noise) / repeats, repeats - 1)


def _widened(metric: Metric, between: _Between, repeats: int, prompts: int, share: bool) -> Metric:
    """The metric with the variance between repeats added, at Satterthwaite's degrees of freedom."""
    low, high = metric.ci95
    within = ((high - low) / 2 / student(prompts - 1)) ** 2
    if between.variance == 0 or within == 0:
        return metric
    both = within + between.variance
    freedom = both**2 / (within**2 / (prompts - 1) + between.variance**2 / between.freedom)
    factor = math.sqrt(both / within) * student(freedom) / student(prompts - 1)
    low, high = metric.value - factor * (metric.value - low), metric.value + factor * (high - metric.value)
    return Metric(metric.value, metric.n, (max(0.0, low), min(1.0, high)) if share else (low, high))
