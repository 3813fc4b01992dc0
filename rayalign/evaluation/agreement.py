"""How far two scorers agree on the same answers. Pure; an answer that one of the two gave no reward counts nowhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Rewards = Sequence[float | None]
"""One per answer, finite; None where there is none."""


def pearson(a: Rewards, b: Rewards) -> float | None:
    """Correlation of the rewards; None where it is not defined: fewer than two answers, or one side all equal."""
    from scipy import stats

    known = _both(a, b)
    return None if known is None else _finite(stats.pearsonr(*known)[0])


def spearman(a: Rewards, b: Rewards) -> float | None:
    """Correlation of the rewards' ranks, ties sharing their mean rank; None as for `pearson`."""
    from scipy import stats

    known = _both(a, b)
    return None if known is None else _finite(stats.spearmanr(*known)[0])


@dataclass(frozen=True, slots=True)
class PairAgreement:
    """Pairs of answers to one prompt that both scorers order."""

    alike: int
    pairs: int

    @property
    def share(self) -> float | None:
        """Of the pairs, how many are ordered alike; None without pairs."""
        return self.alike / self.pairs if self.pairs else None


def pair_agreement(prompt_ids: Sequence[str], a: Rewards, b: Rewards) -> PairAgreement:
    """Compare the order of every two answers to the same prompt; a pair that ties for one scorer is left out.

    Args:
        prompt_ids: the prompt of each answer; those of a prompt are taken together wherever they stand.

    >>> pair_agreement(["p", "p", "p", "q"], [1.0, 2.0, 2.0, 9.0], [1.0, 3.0, 0.0, 0.0])
    PairAgreement(alike=1, pairs=2)
    """
    groups: dict[str, list[tuple[float, float]]] = {}
    for prompt_id, x, y in zip(prompt_ids, a, b, strict=True):
        if x is not None and y is not None:
            groups.setdefault(prompt_id, []).append((x, y))
    alike = pairs = 0
    for rewards in groups.values():
        a_K, b_K = np.asarray(rewards, dtype=np.float64).T
        # Each pair stands in the table twice, with opposite signs.
        products_KK = _order(a_K) * _order(b_K)
        alike += int((products_KK > 0).sum()) // 2
        pairs += int((products_KK != 0).sum()) // 2
    return PairAgreement(alike, pairs)


def _order(rewards_K: npt.NDArray[np.float64]) -> npt.NDArray[np.int8]:
    """+1, 0 or -1 for every two answers, by comparison: a difference of two large rewards would overflow."""
    column_K1 = rewards_K[:, None]
    return (column_K1 > rewards_K).astype(np.int8) - (column_K1 < rewards_K).astype(np.int8)


def _finite(value: Any) -> float | None:
    # Rewards near the end of what a float holds overflow on the way.
    return float(value) if math.isfinite(value) else None


def _both(a: Rewards, b: Rewards) -> tuple[list[float], list[float]] | None:
    """The rewards of the answers that have both; None where they have no correlation."""
    known = [(x, y) for x, y in zip(a, b, strict=True) if x is not None and y is not None]
    xs, ys = [x for x, _ in known], [y for _, y in known]
    return (xs, ys) if len(set(xs)) > 1 and len(set(ys)) > 1 else None
