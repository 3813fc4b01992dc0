"""Win rate at equal length: regressions that can be solved by hand, and what cannot be told."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize

from rayalign.evaluation.equal_length import Answers, equal_length_win_rate
from rayalign.records import Metric


def rate(ours: Answers, theirs: Answers) -> Metric:
    found = equal_length_win_rate([ours], [theirs])
    assert found is not None
    return found


def test_all_wins_at_equal_length_stay_finite() -> None:
    """Firth's estimate of n wins of n is (n + 1/2) / (n + 1); the interval is Wilson's of 20 prompts."""
    ours, theirs = ({str(i): [(reward, 10)] for i in range(20)} for reward in (1.0, 0.0))
    found = rate(ours, theirs)
    assert (found.value, found.n) == (pytest.approx(20.5 / 21), 20)
    assert found.ci95[0] == pytest.approx(0.80, abs=0.03) and found.ci95[1] > 0.99
    assert rate(theirs, ours).value == pytest.approx(0.5 / 21)


def test_equal_lengths_give_the_win_rate() -> None:
    """12 of 20 prompts won: (12 + 1/2) / 21."""
    ours = {str(i): [(float(i < 12), 7)] for i in range(20)}
    assert rate(ours, {str(i): [(0.5, 7)] for i in range(20)}).value == pytest.approx(12.5 / 21)


def test_separated_by_length_stays_finite() -> None:
    """Every longer answer wins and every shorter one loses, as many of each: 1/2 at equal length."""
    ours = {str(i): [(1.0, 30) if i % 2 else (0.0, 10)] for i in range(40)}
    found = rate(ours, {str(i): [(0.5, 20)] for i in range(40)})
    assert found.value == pytest.approx(0.5)
    assert 0 < found.ci95[0] < 0.5 < found.ci95[1] < 1


def test_regression_maximises_firths_likelihood() -> None:
    """Sum of w * log-likelihood plus half the log-determinant of the information, by scipy's optimiser."""
    rng = np.random.default_rng(0)
    ours = {str(i): [(float(rng.normal(0.3)), int(rng.integers(5, 60))) for _ in range(2)] for i in range(30)}
    theirs = {str(i): [(float(rng.normal()), int(rng.integers(5, 50))) for _ in range(3)] for i in range(30)}
    pairs = [(a > b, n - m) for i in ours for a, n in ours[i] for b, m in theirs[i]]
    won, longer = np.array([p[0] for p in pairs], dtype=float), np.array([p[1] for p in pairs], dtype=float)
    design = np.stack([np.ones(len(pairs)), np.tanh(longer / longer.std())], axis=1)

    def loss(coefficients: np.ndarray) -> float:
        chances = 1 / (1 + np.exp(-design @ coefficients))
        likelihood = np.sum(won * np.log(chances) + (1 - won) * np.log(1 - chances)) / 6
        information = design.T @ (design * (chances * (1 - chances))[:, None]) / 6
        return float(-likelihood - 0.5 * np.log(np.linalg.det(information)))

    best = optimize.minimize(loss, np.zeros(2), tol=1e-12).x
    assert rate(ours, theirs).value == pytest.approx(1 / (1 + math.exp(-best[0])), abs=1e-5)


def test_swapping_sides_gives_the_complement() -> None:
    rng = np.random.default_rng(1)
    ours, theirs = (
        {str(i): [(float(rng.normal()), int(rng.integers(5, 60))) for _ in range(2)] for i in range(20)} for _ in "ab"
    )
    assert rate(ours, theirs).value + rate(theirs, ours).value == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {}),
        ({"a": [(None, 5)]}, {"a": [(1.0, 5)]}),
        ({"a": [(1.0, 9)], "b": [(0.0, 9)]}, {"a": [(0.0, 5)], "b": [(1.0, 5)]}),
    ],
    ids=["nothing", "no reward", "all four tokens longer"],
)
def test_what_cannot_be_told_is_none(ours: Answers, theirs: Answers) -> None:
    assert equal_length_win_rate([ours], [theirs]) is None
