"""Two rounds on the same prompts: how much one is better, and how likely chance alone would give that."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rayalign.evaluation.statistics import FloatArray, clustered_mean
from rayalign.records import Metric

PromptMeans = Mapping[str, float]
"""Prompt id -> the mean of a metric over the prompt's answers."""
Test = Literal["wilcoxon", "sign"]
Verdict = Literal["better", "worse", "none"]
LEVEL = 0.05
FEW_SIZES = 2
"""Differences of at most so many sizes have hardly ranks: then only their signs count."""
DIGITS = 9
"""Differences count as equal where they are to this many digits of the largest; rounding makes the rest."""


@dataclass(frozen=True, slots=True)
class Paired:
    """One round against an earlier one."""

    difference: Metric
    """Mean over prompts of now - before; `n` is prompts."""
    p: float
    """Two-sided: how likely a difference this large or larger is where there is none."""
    p_worse: float
    """One-sided: how likely a difference this low or lower is where there is none."""
    test: Test


def compare(now: PromptMeans, before: PromptMeans, *, seed: int) -> Paired | None:
    """Both on the prompts that both have, each alike; None where there is none.

    The interval of the difference is by bootstrap over prompts; p is Wilcoxon's signed-rank test, or the sign test
    where the differences have only `FEW_SIZES` sizes. Where the test points to the other side than the mean, p is 1.
    """
    prompts = sorted(now.keys() & before.keys())
    if not prompts:
        return None
    difference = clustered_mean([now[prompt] - before[prompt] for prompt in prompts], prompts, seed=seed)
    d_C = np.array([now[prompt] - before[prompt] for prompt in prompts], dtype=np.float64)
    p_less, test = signed_test(d_C, "less")
    p_greater, _ = signed_test(d_C, "greater")
    towards = p_less if difference.value < 0 else p_greater
    p = min(1.0, 2 * towards) if difference.value else 1.0
    return Paired(difference, p, p_less if difference.value < 0 else 1.0, test)


def signed_test(d_C: FloatArray, alternative: Literal["less", "greater"]) -> tuple[float, Test]:
    """The one-sided p of differences that are symmetric about 0, and the test that it is from.

    >>> signed_test(np.array([-1.0, -1.0, -1.0, 1.0, 0.0]), "less")
    (0.3125, 'sign')
    """
    from scipy import stats

    largest = float(np.abs(d_C).max(initial=0.0))
    if largest == 0:
        return 1.0, "sign"
    d_C = np.round(d_C / largest, DIGITS)
    d_C = d_C[d_C != 0]
    if len(np.unique(np.abs(d_C))) <= FEW_SIZES:
        below, count = int(np.sum(d_C < 0)), len(d_C)
        favourable = below if alternative == "less" else count - below
        return float(stats.binomtest(favourable, count, alternative="greater").pvalue), "sign"
    _, p_value = np.asarray(stats.wilcoxon(d_C, alternative=alternative), dtype=np.float64)
    return float(p_value), "wilcoxon"


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values (1979), in the order given: each may be compared with the level that all share.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


def verdict(difference: float, p_adjusted: float) -> Verdict:
    """What may be said of a difference."""
    if p_adjusted > LEVEL or not difference or math.isnan(difference):
        return "none"
    return "better" if difference > 0 else "worse"


def gate_level(looks: int) -> float:
    """The level of one test of a gate that compares each of `looks` rounds with the best one before it.

    Whichever round is the best, the comparison is one of those between two of the run's rounds, round 0 included:
    where each of these pairs is tested at its share of `LEVEL`, the chance of any false alarm is at most `LEVEL`.
    """
    return LEVEL / (looks * (looks + 1) / 2)
