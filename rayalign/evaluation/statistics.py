"""Means with 95 % bootstrap intervals, clustered by prompt.

Answers to one prompt resemble each other, so prompts are resampled, not answers. A percentile interval from few
prompts (under about 30) is too narrow; that is a limit of the bootstrap, not of the number of resamples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from rayalign.records import Metric

FloatArray = npt.NDArray[np.float64]

DRAWS_PER_BLOCK = 4_000_000
"""Bounds memory: this many drawn prompts are held at a time."""


def clustered_mean(values: Sequence[float], clusters: Sequence[str], *, seed: int, resamples: int = 1000) -> Metric:
    """The mean over all values, with the 95 % percentile interval of a bootstrap over clusters.

    Every resample draws as many clusters as there are, with replacement, and takes the mean over all values in
    them. The same seed and the same (value, cluster) pairs give the same numbers in whatever order the clusters
    arrive. With a single cluster the spread between prompts cannot be known: the interval is (value, value).

    Args:
        values: one number per answer or pair, finite.
        clusters: the prompt id of each value.

    Raises:
        ValueError: no values, a NaN or an infinity among them, lengths that differ, or no resamples.
    """
    if len(values) != len(clusters):
        raise ValueError(f"{len(values)} values but {len(clusters)} cluster names: give each value its prompt id")
    if not values:
        raise ValueError("no values: a metric of nothing is missing, leave it out")
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}: at least 1 is needed")
    bad = [index for index, value in enumerate(values) if not math.isfinite(value)]
    if bad:
        raise ValueError(f"value {bad[0]} is {values[bad[0]]}: leave missing values out instead of passing NaN")
    mean = math.fsum(values) / len(values)
    sums_C, counts_C = _per_cluster(values, clusters)
    if len(sums_C) == 1:
        return Metric(mean, len(values), (mean, mean))
    means_R = _resampled_means(sums_C, counts_C, np.random.default_rng(seed), resamples)
    low, high = np.quantile(means_R, [0.025, 0.975])
    return Metric(mean, len(values), (float(low), float(high)))


def clustered_statistic(
    sums_CS: FloatArray, statistic: Callable[[FloatArray], FloatArray], *, n: int, seed: int, resamples: int = 1000
) -> Metric | None:
    """A function of sums over all answers (a ratio, a correlation), with an interval as `clustered_mean`'s.

    Args:
        sums_CS: S sums over the answers of each cluster.
        statistic: [..., S] sums over clusters -> [...] values; what it cannot give is NaN.
        n: answers or pairs, for the metric.

    Returns:
        None where the statistic is not defined. Resamples that leave it undefined are left out of the interval.
    """
    if len(sums_CS) == 0:
        return None
    with np.errstate(all="ignore"):
        value = float(statistic(sums_CS.sum(axis=0)))
        if not math.isfinite(value):
            return None
        rng, clusters = np.random.default_rng(seed), len(sums_CS)
        block = max(1, DRAWS_PER_BLOCK // sums_CS.size)
        drawn = (
            rng.integers(clusters, size=(min(block, resamples - start), clusters))
            for start in range(0, resamples, block)
        )
        values_R = np.concatenate([statistic(sums_CS[drawn_RC].sum(axis=1)) for drawn_RC in drawn])
    low, high = np.quantile(values_R[np.isfinite(values_R)], [0.025, 0.975])
    return Metric(value, n, (float(low), float(high)))


def _per_cluster(values: Sequence[float], clusters: Sequence[str]) -> tuple[FloatArray, FloatArray]:
    """Sum and count per cluster, in order of the cluster names, so that arrival order does not matter."""
    # Not np.unique: numpy strips trailing NULs from strings and would merge clusters.
    positions = {name: position for position, name in enumerate(sorted(set(clusters)))}
    cluster_N = np.array([positions[name] for name in clusters])
    sums_C = np.bincount(cluster_N, weights=np.asarray(values, dtype=np.float64))
    counts_C = np.bincount(cluster_N)
    return sums_C.astype(np.float64), counts_C.astype(np.float64)


def _resampled_means(sums_C: FloatArray, counts_C: FloatArray, rng: np.random.Generator, resamples: int) -> FloatArray:
    clusters = len(sums_C)
    block = max(1, DRAWS_PER_BLOCK // clusters)
    means = []
    for start in range(0, resamples, block):
        drawn_RC = rng.integers(clusters, size=(min(block, resamples - start), clusters))
        means.append(sums_C[drawn_RC].sum(axis=1) / counts_C[drawn_RC].sum(axis=1))
    return np.concatenate(means)
