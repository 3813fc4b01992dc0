"""Paired comparisons against hand-counted and scipy's values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from rayalign.evaluation.paired import compare, gate_level, holm, signed_test, verdict


def test_difference_is_the_mean_over_shared_prompts() -> None:
    """a +1, b +3; c and d stand on one side only."""
    found = compare({"a": 2.0, "b": 4.0, "c": 9.0}, {"a": 1.0, "b": 1.0, "d": 0.0}, seed=0)
    assert found is not None
    assert (found.difference.value, found.difference.n) == (2.0, 2)
    assert compare({"a": 1.0}, {"b": 1.0}, seed=0) is None


def test_p_is_wilcoxons() -> None:
    """Differences 1, 2, 3, -4, 5, 6: the ranks of the negative ones sum to 4. Of 2^6 signs those with a sum of at most
    4 are {}, 1, 2, 3, 1+2, 4, 1+3: 7; two-sided 14 / 64."""
    now = dict(zip("abcdef", [1.0, 2.0, 3.0, -4.0, 5.0, 6.0], strict=True))
    found = compare(now, dict.fromkeys("abcdef", 0.0), seed=0)
    assert found is not None
    assert (found.test, found.p, found.p_worse) == ("wilcoxon", pytest.approx(14 / 64), 1.0)


def test_many_differences_as_scipy() -> None:
    d = np.random.default_rng(0).normal(-0.2, size=80)
    found = compare({str(i): float(x) for i, x in enumerate(d)}, {str(i): 0.0 for i in range(80)}, seed=0)
    assert found is not None and found.difference.value < 0
    assert found.p == pytest.approx(stats.wilcoxon(d).pvalue, rel=1e-6)
    assert found.p_worse == pytest.approx(stats.wilcoxon(d, alternative="less").pvalue, rel=1e-6)


def test_few_sizes_are_counted_by_sign() -> None:
    """3 of 4 differences below 0, one more is 0: P(at least 3 of 4) = 5/16."""
    assert signed_test(np.array([-1.0, -1.0, -1.0, 1.0, 0.0]), "less") == (pytest.approx(5 / 16), "sign")
    assert signed_test(np.array([0.0, 0.0]), "less") == (1.0, "sign")


def test_rounding_makes_no_new_sizes() -> None:
    """.3 - .2 and .2 - .1 differ in the 17th digit."""
    assert signed_test(np.array([0.3 - 0.2, 0.2 - 0.1, 0.1]), "greater") == (pytest.approx(1 / 8), "sign")


def test_a_test_that_contradicts_the_mean_finds_nothing() -> None:
    """Nine small losses outrank one large gain, and the mean is a gain."""
    found = compare(
        {**{str(i): -0.1 - i / 1000 for i in range(9)}, "x": 50.0},
        {**{str(i): 0.0 for i in range(9)}, "x": 0.0},
        seed=0,
    )
    assert found is not None and found.difference.value > 0
    assert (found.p, found.p_worse) == (1.0, 1.0)


def test_equal_rounds_are_equal() -> None:
    same = {"a": 1.0, "b": 0.5}
    found = compare(same, same, seed=0)
    assert found is not None
    assert (found.difference.value, found.difference.ci95, found.p, found.p_worse) == (0.0, (0.0, 0.0), 1.0, 1.0)


def test_holm_by_hand() -> None:
    """Sorted .01, .02, .03, .5: times 4, 3, 2, 1 is .04, .06, .06, .5, none below the one before."""
    assert holm([0.5, 0.01, 0.03, 0.02]) == pytest.approx([0.5, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize(
    ("difference", "p", "expected"),
    [(0.1, 0.05, "better"), (-0.1, 0.01, "worse"), (-0.1, 0.051, "none"), (0.0, 0.0, "none")],
)
def test_verdict(difference: float, p: float, expected: str) -> None:
    assert verdict(difference, p) == expected


def test_gate_level_shares_the_alarms_over_all_pairs_of_rounds() -> None:
    """10 rounds and round 0 are 11, of which 55 pairs."""
    assert gate_level(10) == pytest.approx(0.05 / 55)
    assert gate_level(1) == 0.05
