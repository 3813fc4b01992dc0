"""Several scores of one answer -> one reward. Pure.

Only scorers whose weight is not 0 count. The reward is missing where one of them gave none: a part of a sum, or a
minimum over fewer scorers, would be on another scale than the rewards beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Rewards = Sequence[float | None]


def weighted_sum(rewards: Rewards, weights: Sequence[float]) -> float | None:
    """Sum of weight x reward."""
    parts = _parts(rewards, weights)
    return _finite(sum(parts)) if parts else None


def weighted_mean(rewards: Rewards, weights: Sequence[float]) -> float | None:
    """The sum, divided by the sum of the absolute weights."""
    parts = _parts(rewards, weights)
    return _finite(sum(parts) / sum(map(abs, weights))) if parts else None


def weighted_min(rewards: Rewards, weights: Sequence[float]) -> float | None:
    """The smallest weight x reward: no scorer can be played off against another."""
    parts = _parts(rewards, weights)
    return _finite(min(parts)) if parts else None


def mean_minus_std(rewards: Rewards, weights: Sequence[float], k: float) -> float | None:
    """Mean of weight x reward, minus k standard deviations (population): disagreement costs."""
    parts = _parts(rewards, weights)
    if not parts:
        return None
    mean = sum(parts) / len(parts)
    variance = sum((part - mean) * (part - mean) for part in parts) / len(parts)
    return _finite(mean - k * math.sqrt(variance)) if variance < math.inf else None


def _parts(rewards: Rewards, weights: Sequence[float]) -> list[float]:
    """Weight x reward of every scorer that counts; empty where one of them gave none."""
    parts = []
    for reward, weight in zip(rewards, weights, strict=True):
        if weight:
            if reward is None:
                return []
            parts.append(weight * reward)
    return parts


def _finite(reward: float) -> float | None:
    # An overflow is no reward either.
    return reward if math.isfinite(reward) else None


_WAYS = {"weighted_sum": weighted_sum, "weighted_mean": weighted_mean, "min": weighted_min}


def combine(rewards: Rewards, weights: Sequence[float], kind: str, k: float = 1.0) -> float | None:
    """One answer's rewards as one, by the name of the way (`CombineSection.type`)."""
    return mean_minus_std(rewards, weights, k) if kind == "mean_minus_std" else _WAYS[kind](rewards, weights)


def combine_asking(
    columns: Sequence[Rewards],
    weights: Sequence[float],
    asked: Rewards,
    places: Sequence[int],
    kind: str,
    k: float = 1.0,
) -> list[float | None]:
    """Rewards where one scorer was asked only about the answers that the others were undecided on.

    At those places its reward stands in for that of each other scorer, so that the outcome is on the scale of the rest;
    it is missing where the asked scorer gave none.

    Args:
        columns: [scorers][answers] of the others, calibrated.
        weights: those of the others.
        asked: one per answer, calibrated; not read but at `places`.
        places: what `undecided` gave for the `columns` whose weight is not 0.
    """
    asking = set(places)
    return [
        combine([asked[place]] * len(weights) if place in asking else list(rewards), weights, kind, k)
        for place, rewards in enumerate(zip(*columns, strict=True))
    ]


def undecided(columns: Sequence[Rewards], threshold: float) -> list[int]:
    """Places of the answers that still need asking: the scorers' rewards lie more than `threshold` apart, or one is
    missing.

    Args:
        columns: [scorers][answers], already on one scale (calibrated).
        threshold: largest difference between two scorers' rewards that counts as agreement.
    """
    asking = []
    for place, rewards in enumerate(zip(*columns, strict=True)):
        known = [reward for reward in rewards if reward is not None]
        if len(known) < len(rewards) or max(known) - min(known) > threshold:
            asking.append(place)
    return asking
