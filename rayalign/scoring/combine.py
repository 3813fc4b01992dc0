"""Several scores of one answer -> one reward."""

from __future__ import annotations

from collections.abc import Sequence

from rayalign.records import Score


def weighted_sum(scores: Sequence[Score], weights: Sequence[float]) -> float | None:
    """Sum of weight x reward. None where no scorer has a weight, or a weighted one gave no reward: part of a sum would
    be another scale."""
    if not any(weights):
        return None
    total = 0.0
    for score, weight in zip(scores, weights, strict=True):
        if weight == 0:
            continue
        if score.reward is None:
            return None
        total += weight * score.reward
    return total
