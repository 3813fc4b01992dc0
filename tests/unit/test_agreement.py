"""Agreement of two scorers: by hand, and properties for any rewards."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from rayalign.evaluation.agreement import (
    PairAgreement,
    correlations,
    length_correlation,
    ordered_alike,
    pair_accuracy,
    pair_agreement,
    pearson,
    spearman,
    verdict_agreement,
)

MAYBE = st.none() | st.integers(-9, 9).map(float)
ROWS = st.lists(st.tuples(st.sampled_from("pqr"), MAYBE, MAYBE), max_size=20)


def test_pearson_by_hand() -> None:
    """1 2 3 and 1 2 6, the answers without one of the two left out: means 2 and 3; (2 + 0 + 3) / sqrt(2 * 14)."""
    assert pearson([1.0, 2.0, None, 3.0, 7.0], [1.0, 2.0, 5.0, 6.0, None]) == pytest.approx(5 / 28**0.5)


def test_spearman_by_hand() -> None:
    """Ranks 1 2 3 4 and, of 0 5 5 1000, 1 2.5 2.5 4: covariance 4.5 over sqrt(5 * 4.5)."""
    assert spearman([1.0, 2.0, 3.0, 4.0], [0.0, 5.0, 5.0, 1000.0]) == pytest.approx(4.5 / 22.5**0.5)
    assert spearman([1.0, 2.0, 3.0], [8.0, 2.0, -5.0]) == pytest.approx(-1.0)


@pytest.mark.parametrize(("a", "b"), [([], []), ([1.0], [2.0]), ([1.0, 1.0], [1.0, 2.0]), ([1.0, 2.0], [1.0, None])])
def test_no_correlation_where_there_is_none(a: list[float | None], b: list[float | None]) -> None:
    assert pearson(a, b) is None
    assert spearman(a, b) is None


def test_pairs_by_hand() -> None:
    """p: 1 < 2 < 3 against 1 < 3, 2 between: (1,2) alike, (1,3) alike, (2,3) not. q: one answer. r: a tie and a gap."""
    ids = ["p", "q", "p", "r", "p", "r", "r"]
    a = [1.0, 5.0, 2.0, 1.0, 3.0, 1.0, None]
    b = [1.0, 5.0, 3.0, 1.0, 2.0, 2.0, 9.0]
    assert pair_agreement(ids, a, b) == PairAgreement(alike=2, pairs=3)
    assert pair_agreement(ids, a, b).share == pytest.approx(2 / 3)
    assert pair_agreement([], [], []).share is None
    assert pair_agreement(["p", "p"], [-1e308, 1e308], [0.0, 1e-300]) == PairAgreement(1, 1)


@given(ROWS)
def test_a_scorer_agrees_with_itself_and_not_with_its_opposite(
    rows: list[tuple[str, float | None, float | None]],
) -> None:
    ids, a = [row[0] for row in rows], [row[1] for row in rows]
    opposite = [None if reward is None else -reward for reward in a]
    same = pair_agreement(ids, a, a)
    assert same.alike == same.pairs
    assert pair_agreement(ids, a, opposite) == PairAgreement(0, same.pairs)


@given(ROWS)
def test_pairs_counted_one_by_one(rows: list[tuple[str, float | None, float | None]]) -> None:
    alike = pairs = 0
    for i, (prompt, x, y) in enumerate(rows):
        for other, u, v in rows[:i]:
            if prompt == other and None not in (x, y, u, v) and x != u and y != v:
                pairs += 1
                alike += (x > u) == (y > v)  # type: ignore[operator]
    ids, a, b = ([row[i] for row in rows] for i in range(3))
    assert pair_agreement(ids, a, b) == PairAgreement(alike, pairs)


def test_lengths_must_fit() -> None:
    with pytest.raises(ValueError, match="zip"):
        pearson([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="zip"):
        pair_agreement(["p"], [1.0], [1.0, 2.0])


def test_a_resample_of_one_value_has_no_correlation() -> None:
    """Where a resample draws one value alone, the correlation is 0 / 0 but for rounding, which once made it 1.41."""
    a, b = [0.0, 0.0, 0.0, 0.0, 2.0, 9.0, 0.0], [2.0, 0.0, 3.0, 4.0, 4.0, 0.0, 0.0]
    found = correlations(["p", *"qqqqq", "r"], a, b, seed=0)
    assert found["pearson"].ci95[1] <= 1.0


@given(ROWS)
def test_correlations_are_those_without_an_interval(rows: list[tuple[str, float | None, float | None]]) -> None:
    prompts, a, b = ([row[place] for row in rows] for place in range(3))
    found = correlations(prompts, a, b, seed=0)  # type: ignore[arg-type]
    for name, plain in (("pearson", pearson), ("spearman", spearman)):
        value = plain(a, b)  # type: ignore[arg-type]
        assert (name in found) == (value is not None)
        if value is not None:
            low, high = found[name].ci95
            assert found[name].value == pytest.approx(value) and -1.0001 <= low <= high <= 1.0001


def test_intervals_are_over_prompts() -> None:
    """Two prompts with two pairs each, all alike in p and none in q: a resample is pp, qq, or pq twice as often."""
    prompts, a, b = list("pppqqq"), [1.0, 2.0, 2.0] * 2, [1.0, 2.0, 3.0, 3.0, 2.0, 1.0]
    found = ordered_alike(prompts, a, b, seed=0)
    assert found is not None and (found.value, found.n, found.ci95) == (0.5, 4, (0.0, 1.0))


def test_a_tie_is_half_right_against_gold() -> None:
    """Gold orders p's three pairs: one alike, one opposite, one tie. Of q's it orders none."""
    found = pair_accuracy(list("pppqq"), [1.0, 2.0, 1.0, 5.0, 6.0], [1.0, 2.0, 3.0, 0.0, 0.0], seed=0)
    assert found is not None and (found.value, found.n) == (0.5, 3)
    assert pair_accuracy(["p", "p"], [1.0, 2.0], [0.0, 0.0], seed=0) is None


def test_length_correlation_is_within_prompts() -> None:
    """Longer is better within p and q, although q is longer and worse than p; r, where all is equal, says nothing."""
    prompts = list("pppqqqrr")
    rewards, lengths = [7.0, 8.0, 9.0, 1.0, 2.0, 3.0, 5.0, 5.0], [1, 2, 3, 11, 12, 13, 1, 99]
    found = length_correlation(prompts, rewards, lengths, seed=0)
    assert found is not None and (found.value, found.n, found.ci95) == (
        pytest.approx(1.0),
        6,
        pytest.approx((1.0, 1.0)),
    )
    assert length_correlation(["p", "p"], [None, 1.0], [1, 2], seed=0) is None


def test_length_correlation_by_hand() -> None:
    """p: ranks 1 2 3 against 1 3 2, centred products 1 + 0 + 0 = 1 of 2; q: opposite, -2 of 2. (1 - 2) / (2 + 2)."""
    found = length_correlation(list("pppqqq"), [1.0, 2.0, 3.0, 1.0, 2.0, 3.0], [1, 3, 2, 9, 8, 7], seed=0)
    assert found is not None and found.value == pytest.approx(-0.25)


def test_kappa_takes_chance_off() -> None:
    """Both say right to 2 of 4, and agree on 3: by chance they would agree on half; (0.75 - 0.5) / 0.5."""
    said = verdict_agreement(list("pqrst"), [True, True, False, False, None], [True, True, True, False, True], seed=0)
    assert (said["agreement"].value, said["agreement"].n) == (0.75, 4)
    assert said["kappa"].value == pytest.approx(0.5)
    always = verdict_agreement(list("pq"), [True, True], [True, True], seed=0)
    assert set(always) == {"agreement"}, "no kappa where chance alone agrees on all"
