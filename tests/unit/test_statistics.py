"""The clustered bootstrap: exact values, determinism, and coverage on distributions whose mean is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from rayalign.evaluation import statistics
from rayalign.evaluation.statistics import clustered_mean


def test_value_weighs_answers_and_interval_resamples_prompts() -> None:
    """Prompt a has (0, 0, 0), prompt b has (1,): the mean over answers is 1/4.

    A resample draws two prompts: aa (mean 0), bb (mean 1), or ab (mean 1/4), with odds 1:1:2. The ends of that
    distribution are 0 and 1.
    """
    metric = clustered_mean([0.0, 0.0, 0.0, 1.0], ["a", "a", "a", "b"], seed=0)
    assert metric.value == 0.25
    assert metric.n == 4
    assert metric.ci95 == (0.0, 1.0)


def test_percentiles_are_those_of_the_resampled_means() -> None:
    """100 prompts, half 0 and half 1: a resample's mean is Binomial(100, 1/2) / 100.

    The 2.5 % and 97.5 % points of Binomial(100, 1/2) are 40 and 60 (P(X <= 39) = 0.0176, P(X <= 40) = 0.0284).
    """
    values = [float(index % 2) for index in range(100)]
    low, high = clustered_mean(values, [f"p{index}" for index in range(100)], seed=1, resamples=20_000).ci95
    assert low == pytest.approx(0.40, abs=0.0101)
    assert high == pytest.approx(0.60, abs=0.0101)


def test_copies_of_an_answer_do_not_narrow_the_interval() -> None:
    """Eight equal answers per prompt say no more than one: the interval is the same, only n is eight times larger."""
    values, prompts = [0.0, 1.0, 0.5, 0.25, 0.75], ["a", "b", "c", "d", "e"]
    one = clustered_mean(values, prompts, seed=3)
    eight = clustered_mean(values * 8, prompts * 8, seed=3)
    assert (eight.value, eight.n) == (one.value, 40)
    assert eight.ci95 == pytest.approx(one.ci95)
    alone = clustered_mean(values * 8, [str(index) for index in range(40)], seed=3)
    assert alone.ci95[1] - alone.ci95[0] < 0.6 * (one.ci95[1] - one.ci95[0])


def test_same_seed_same_numbers_in_any_order() -> None:
    pairs = [(0.1 * index, f"p{index % 7}") for index in range(50)]
    forward = clustered_mean([value for value, _ in pairs], [name for _, name in pairs], seed=5)
    backward = clustered_mean([value for value, _ in pairs[::-1]], [name for _, name in pairs[::-1]], seed=5)
    assert backward.value == forward.value
    assert backward.ci95 == pytest.approx(forward.ci95, rel=1e-12)
    assert clustered_mean([v for v, _ in pairs], [n for _, n in pairs], seed=6).ci95 != forward.ci95


def test_interval_is_the_one_that_a_plain_loop_gives() -> None:
    """The same draws, one resample at a time, over prompts in the order of their names; BCa's levels by its formula.

    A percentile interval of these draws would be the one at 2.5 % and 97.5 %, which is too narrow with 26 prompts.
    """
    prompts = [f"p{index % 26:02d}" for index in range(26 * 27 // 2)]
    values = [math.sin(index) for index in range(len(prompts))]
    by_prompt = [[v for v, name in zip(values, prompts, strict=True) if name == p] for p in sorted(set(prompts))]
    drawn_RC = np.random.default_rng(9).integers(26, size=(200, 26))
    means = [np.mean([value for cluster in row for value in by_prompt[cluster]]) for row in drawn_RC]
    left_out = [
        np.mean([v for v, name in zip(values, prompts, strict=True) if name != p]) for p in sorted(set(prompts))
    ]
    pull = np.mean(left_out) - np.array(left_out)
    acceleration = (pull**3).sum() / (6 * (pull**2).sum() ** 1.5)
    bias = stats.norm.ppf(np.mean(np.array(means) < np.mean(values)))
    wide = math.sqrt(26 / 25) * stats.t.ppf(0.975, 25) * (1 + 2 * abs(acceleration))
    moved = bias + np.array([-wide, wide])
    expected = np.quantile(means, stats.norm.cdf(bias + moved / (1 - acceleration * moved)))
    assert clustered_mean(values, prompts, seed=9, resamples=200).ci95 == pytest.approx(tuple(expected), rel=1e-9)


def test_interval_is_scipys_at_the_levels_of_student() -> None:
    """40 prompts of one skewed value each; both draw 20,000 times, from other seeds."""
    values = np.random.default_rng(3).exponential(size=40)
    acceleration = stats.skew(values) / 6 / math.sqrt(40)
    level = 1 - 2 * stats.norm.cdf(-math.sqrt(40 / 39) * stats.t.ppf(0.975, 39) * (1 + 2 * acceleration))
    theirs = stats.bootstrap(
        (values,), np.mean, confidence_level=level, n_resamples=20_000, rng=np.random.default_rng(1), method="BCa"
    ).confidence_interval
    ours = clustered_mean(values.tolist(), [str(place) for place in range(40)], seed=2, resamples=20_000).ci95
    assert ours == pytest.approx((theirs.low, theirs.high), rel=0.01)


def test_share_is_wilsons_with_student() -> None:
    """50 prompts, one answer each, 45 of them right: p = .9, variance of p over prompts .9 * .1 / 49, so 49 independent
    values; a quarter of a prompt that half passes, added, has 45.125 / 50.25 pass, and leaves 49 * .09 / (q (1 - q)).
    """
    low, high = clustered_mean([1.0] * 45 + [0.0] * 5, [str(i) for i in range(50)], seed=0, share=True).ci95
    q = 45.125 / 50.25
    n, t2 = 49 * 0.09 / (q * (1 - q)), stats.t.ppf(0.975, 49) ** 2
    centre, half = 0.9 + t2 / (2 * n), math.sqrt(t2 * (0.09 / n + t2 / (4 * n * n)))
    assert (low, high) == pytest.approx(((centre - half) / (1 + t2 / n), (centre + half) / (1 + t2 / n)))


def test_share_of_none_has_a_width() -> None:
    """30 prompts without one failure: the upper end is t2 / (30 + t2) = .122 (rule of three: 3 / 30), the lower 0."""
    t2 = stats.t.ppf(0.975, 29) ** 2
    values, prompts = [0.0] * 60, [f"p{i % 30}" for i in range(60)]
    assert clustered_mean(values, prompts, seed=0, share=True).ci95 == pytest.approx((0.0, t2 / (30 + t2)))
    assert clustered_mean([0.5] * 60, prompts, seed=0, share=True).ci95 == (0.5, 0.5)


def test_mean_is_exact_where_a_running_sum_would_cancel() -> None:
    assert clustered_mean([1e16, 1.0, -1e16], ["a", "a", "a"], seed=0).value == 1 / 3


def test_blocks_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    values, prompts = [0.0, 1.0, 0.5, 0.25], ["a", "b", "c", "d"]
    whole = clustered_mean(values, prompts, seed=0, resamples=103)
    monkeypatch.setattr(statistics, "DRAWS_PER_BLOCK", 40)
    assert clustered_mean(values, prompts, seed=0, resamples=103) == whole


def test_single_cluster_has_an_interval_without_width() -> None:
    assert clustered_mean([1.0, 2.0], ["a", "a"], seed=0).ci95 == (1.5, 1.5)


def test_cluster_names_that_numpy_would_merge_stay_apart() -> None:
    """Two clusters ("a" and "a" + NUL) give an interval with width, one gives none."""
    low, high = clustered_mean([0.0, 1.0], ["a", "a\x00"], seed=0).ci95
    assert (low, high) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("values", "clusters", "resamples", "found"),
    [
        ([], [], 10, "no values"),
        ([1.0, math.nan], ["a", "b"], 10, "value 1 is nan"),
        ([math.inf], ["a"], 10, "value 0 is inf"),
        ([1.0], ["a", "b"], 10, "1 values but 2"),
        ([1.0], ["a"], 0, "resamples is 0"),
    ],
)
def test_refuses(values: list[float], clusters: list[str], resamples: int, found: str) -> None:
    with pytest.raises(ValueError, match=found):
        clustered_mean(values, clusters, seed=0, resamples=resamples)


def test_interval_covers_the_true_mean_in_95_percent_of_experiments() -> None:
    """60 prompts with 4 answers each: answer = prompt effect N(0, 1) + noise N(0, 0.5), true mean 0.

    Of 400 experiments 95 % = 380 should cover, with a standard deviation of sqrt(400 * .95 * .05) = 4.4. Bounds:
    0.91 .. 0.98; tests/unit/test_coverage.py has more experiments and narrower ones. Resampling answers instead of
    prompts would cover in about 70 % of experiments.
    """
    rng = np.random.default_rng(11)
    prompts = [f"p{index // 4}" for index in range(240)]
    covered = 0
    for experiment in range(400):
        values = np.repeat(rng.normal(size=60), 4) + rng.normal(scale=0.5, size=240)
        low, high = clustered_mean(values.tolist(), prompts, seed=experiment, resamples=400).ci95
        covered += low <= 0.0 <= high
    assert 0.91 <= covered / 400 <= 0.98
