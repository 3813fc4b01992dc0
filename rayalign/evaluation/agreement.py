"""How far two scorers agree on the same answers. Pure; an answer that one of the two gave no reward counts nowhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rayalign.evaluation.statistics import FloatArray, clustered_statistic
from rayalign.records import Metric

ROUNDING = 1e-12
"""What rounding may leave of a sum of squares, relative to it."""
Rewards = Sequence[float | None]
"""One reward per answer, finite; None where there is none."""


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
        """Share of the pairs that are ordered alike; None without pairs."""
        return self.alike / self.pairs if self.pairs else None


def pair_agreement(prompt_ids: Sequence[str], a: Rewards, b: Rewards) -> PairAgreement:
    """Compare the order of every two answers to the same prompt; a pair that ties for one scorer is left out.

    Args:
        prompt_ids: the prompt of each answer; those of a prompt are taken together wherever they stand.

    >>> pair_agreement(["p", "p", "p", "q"], [1.0, 2.0, 2.0, 9.0], [1.0, 3.0, 0.0, 0.0])
    PairAgreement(alike=1, pairs=2)
    """
    alike, opposite, _ = _pair_counts(prompt_ids, a, b).sum(axis=0)
    return PairAgreement(int(alike), int(alike + opposite))


def correlations(prompt_ids: Sequence[str], a: Rewards, b: Rewards, *, seed: int) -> dict[str, Metric]:
    """`pearson` and `spearman` over all answers, with intervals over prompts; what is not defined is left out.

    The ranks stay those of all answers while prompts are resampled.
    """
    prompts, columns_N = _known(prompt_ids, a, b)
    found = {}
    for name, (x_N, y_N) in (("pearson", columns_N), ("spearman", [_ranks(column_N) for column_N in columns_N])):
        if len(x_N) and np.ptp(x_N) and np.ptp(y_N):
            x_N, y_N = x_N - x_N.mean(), y_N - y_N.mean()
            sums_CS = _sums(prompts, [np.ones_like(x_N), x_N, y_N, x_N * x_N, y_N * y_N, x_N * y_N])
            found[name] = clustered_statistic(sums_CS, _correlation, n=len(x_N), seed=seed)
    return {name: metric for name, metric in found.items() if metric is not None}


def ordered_alike(prompt_ids: Sequence[str], a: Rewards, b: Rewards, *, seed: int) -> Metric | None:
    """`pair_agreement` as a share with its interval; `n` is pairs."""
    counts_C3 = _pair_counts(prompt_ids, a, b)
    n = int(counts_C3[:, :2].sum())
    return clustered_statistic(counts_C3, lambda sums: sums[..., 0] / (sums[..., 0] + sums[..., 1]), n=n, seed=seed)


def pair_accuracy(prompt_ids: Sequence[str], rewards: Rewards, gold: Rewards, *, seed: int) -> Metric | None:
    """Share of the pairs of answers to one prompt, among those that gold orders, that `rewards` order alike; a tie of
    `rewards` counts half."""
    counts_C3 = _pair_counts(prompt_ids, rewards, gold)
    n = int(counts_C3.sum())
    return clustered_statistic(
        counts_C3, lambda sums: (sums[..., 0] + sums[..., 2] / 2) / sums.sum(axis=-1), n=n, seed=seed
    )


def length_correlation(
    prompt_ids: Sequence[str], rewards: Rewards, lengths: Sequence[int], *, seed: int
) -> Metric | None:
    """Spearman's correlation of reward and length within prompts: ranks are taken, and centred, per prompt.

    Prompts differ in how long their answers are and in how well they go, which alone would correlate the two. A
    prompt whose answers all have one reward or one length says nothing and is left out. `n` is answers.
    """
    groups = _by_prompt(prompt_ids, rewards, lengths)
    rows, n = [], 0
    for x_K, y_K in groups:
        if np.ptp(x_K) and np.ptp(y_K):
            x_K, y_K = (ranks_K - ranks_K.mean() for ranks_K in (_ranks(x_K), _ranks(y_K)))
            rows.append([x_K @ x_K, y_K @ y_K, x_K @ y_K])
            n += len(x_K)
    sums_C3 = np.array(rows, dtype=np.float64).reshape(-1, 3)
    return clustered_statistic(sums_C3, lambda s: s[..., 2] / np.sqrt(s[..., 0] * s[..., 1]), n=n, seed=seed)


def verdict_agreement(
    prompt_ids: Sequence[str], a: Sequence[bool | None], b: Sequence[bool | None], *, seed: int
) -> dict[str, Metric]:
    """`agreement`: share of answers with the same verdict; `kappa`: Cohen's, the same beyond what chance gives."""
    prompts, (x_N, y_N) = _known(prompt_ids, a, b)
    sums_CS = _sums(prompts, [np.ones_like(x_N), x_N, y_N, (x_N == y_N).astype(np.float64)])
    found = {
        "agreement": clustered_statistic(sums_CS, lambda s: s[..., 3] / s[..., 0], n=len(x_N), seed=seed),
        "kappa": clustered_statistic(sums_CS, _kappa, n=len(x_N), seed=seed),
    }
    return {name: metric for name, metric in found.items() if metric is not None}


def _correlation(sums: FloatArray) -> FloatArray:
    n, x, y, xx, yy, xy = (sums[..., i] for i in range(6))
    spread = _spread(n, x, xx) * _spread(n, y, yy)
    # A correlation that rounding puts past the end is at the end.
    return np.asarray(np.clip((n * xy - x * y) / np.sqrt(spread), -1.0, 1.0))


def _spread(n: FloatArray, x: FloatArray, xx: FloatArray) -> FloatArray:
    """n squared times a column's variance; NaN where that is no more than what rounding leaves of a constant one."""
    spread = n * xx - x * x
    return np.where(spread > ROUNDING * n * xx, spread, np.nan)


def _kappa(sums: FloatArray) -> FloatArray:
    n, x, y, same = (sums[..., i] for i in range(4))
    chance = (x * y + (n - x) * (n - y)) / (n * n)
    return np.asarray((same / n - chance) / (1 - chance))


def _pair_counts(prompt_ids: Sequence[str], a: Rewards, b: Rewards) -> FloatArray:
    """[prompts, 3] pairs: ordered alike, in opposite order, and ordered by `b` alone."""
    rows: list[list[int]] = []
    for a_K, b_K in _by_prompt(prompt_ids, a, b):
        order_a_KK, order_b_KK = _order(a_K), _order(b_K)
        products_KK = order_a_KK * order_b_KK
        # Each pair stands in the table twice, with opposite signs.
        tied_KK = (order_a_KK == 0) & (order_b_KK != 0)
        rows.append([int(pairs_KK.sum()) // 2 for pairs_KK in (products_KK > 0, products_KK < 0, tied_KK)])
    return np.array(rows, dtype=np.float64).reshape(-1, 3)


def _by_prompt(prompt_ids: Sequence[str], a: Rewards, b: Rewards) -> list[tuple[FloatArray, FloatArray]]:
    """Both columns of each prompt's answers that have both, in order of the prompts' ids."""
    groups: dict[str, list[tuple[float, float]]] = {}
    for prompt_id, x, y in zip(prompt_ids, a, b, strict=True):
        if x is not None and y is not None:
            groups.setdefault(prompt_id, []).append((x, y))
    columns = (np.asarray(groups[prompt_id], dtype=np.float64).T for prompt_id in sorted(groups))
    return [(x_K, y_K) for x_K, y_K in columns]


def _known(prompt_ids: Sequence[str], a: Rewards, b: Rewards) -> tuple[list[str], list[FloatArray]]:
    rows = [row for row in zip(prompt_ids, a, b, strict=True) if row[1] is not None and row[2] is not None]
    columns = [np.array([row[place] for row in rows], dtype=np.float64) for place in (1, 2)]
    return [row[0] for row in rows], columns


def _sums(prompt_ids: Sequence[str], columns_N: Sequence[FloatArray]) -> FloatArray:
    """[prompts, columns]: each column summed over the answers of each prompt, in order of the prompts' ids."""
    places = {prompt_id: place for place, prompt_id in enumerate(sorted(set(prompt_ids)))}
    prompt_N = np.array([places[prompt_id] for prompt_id in prompt_ids], dtype=np.int64)
    sums = [np.bincount(prompt_N, weights=column_N, minlength=len(places)) for column_N in columns_N]
    return np.stack(sums, axis=-1).astype(np.float64)


def _ranks(values_N: FloatArray) -> FloatArray:
    """1 for the smallest; ties share their mean rank."""
    _, place_N, counts = np.unique(values_N, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place_N]


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
