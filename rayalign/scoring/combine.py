"""Several scores of one answer -> one reward. Pure.

Only scorers whose weight is not 0 count. The reward is missing where one of them gave none: a part of a sum, or a
minimum over fewer scorers, would be on another scale than the rewards beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

Rewards = Sequence[float | None]


def weighted_sum(rewards: Rewards, weights: Sequence[float]) -> float | None:
    """Sum of weight x reward."""
    return _over(rewards, weights, lambda pairs: sum(weight * reward for weight, reward in pairs))


def weighted_mean(rewards: Rewards, weights: Sequence[float]) -> float | None:
    """The sum, divided by the sum of the absolute weights."""
    return _over(rewards, weights, _mean)


def weighted_min(rewards: Rewards, weights: Sequence[float]) -> float | None:
    """The smallest weight x reward: no scorer can be played off against another."""
    return _over(rewards, weights, lambda pairs: min(weight * reward for weight, reward in pairs))


def mean_minus_std(rewards: Rewards, weights: Sequence[float], k: float) -> float | None:
    """Mean of weight x reward, minus k standard deviations (population): disagreement costs."""

    def lower(pairs: list[tuple[float, float]]) -> float:
        values = [weight * reward for weight, reward in pairs]
        mean = math.fsum(values) / len(values)
        return mean - k * math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))

    return _over(rewards, weights, lower)


def _mean(pairs: list[tuple[float, float]]) -> float:
    return sum(weight * reward for weight, reward in pairs) / sum(abs(weight) for weight, _ in pairs)


def _over(
    rewards: Rewards, weights: Sequence[float], join: Callable[[list[tuple[float, float]]], float]
) -> float | None:
    pairs = [(weight, reward) for reward, weight in zip(rewards, weights, strict=True) if weight != 0]
    known = [(weight, reward) for weight, reward in pairs if reward is not None]
    if not pairs or len(known) != len(pairs):
        return None
    reward = join(known)
    # An overflow is no reward either.
    return reward if math.isfinite(reward) else None


def combine(rewards: Rewards, weights: Sequence[float], kind: str, k: float = 1.0) -> float | None:
    """One answer's rewards as one, by the name of the way (`CombineSection.type`)."""
    if kind == "mean_minus_std":
        return mean_minus_std(rewards, weights, k)
    return {"weighted_sum": weighted_sum, "weighted_mean": weighted_mean, "min": weighted_min}[kind](rewards, weights)


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
