"""Comparisons in both orders: what agrees counts, what hangs on the order is a tie, what is missing stays missing."""

from __future__ import annotations

import pytest

from rayalign.evaluation.benchmarks.both_orders import (
    Choice,
    Comparison,
    compared,
    flip_rate,
    same_text,
    win_rate,
)


@pytest.mark.parametrize(
    ("forth", "back", "share", "flipped"),
    [
        ("first", "second", 1.0, False),
        ("second", "first", 0.0, False),
        ("tie", "tie", 0.5, False),
        ("first", "first", 0.5, True),
        ("second", "second", 0.5, True),
        ("first", "tie", 0.5, True),
        ("tie", "second", 0.5, True),
    ],
)
def test_won_or_lost_only_where_both_orders_agree(forth: Choice, back: Choice, share: float, flipped: bool) -> None:
    assert compared("q", "base", forth, back) == Comparison("q", "base", share, flipped)


@pytest.mark.parametrize(("forth", "back"), [(None, "first"), ("first", None), (None, None)])
def test_a_missing_verdict_leaves_the_comparison_without_an_outcome(forth: Choice | None, back: Choice | None) -> None:
    assert compared("q", "base", forth, back).share is None


def test_rates_leave_out_what_is_missing_and_nobody_was_asked_about() -> None:
    """(1 + .5 + .5) / 3 of the decided; of the two that were asked one is flipped."""
    some = [
        compared("a", "base", "first", "second"),
        compared("b", "base", "first", "first"),
        same_text("c", "base"),
        compared("d", "base", None, "second"),
    ]
    won, flips = win_rate(some, seed=0), flip_rate(some, seed=0)
    assert won is not None and flips is not None
    assert (won.value, won.n) == (pytest.approx(2 / 3), 3)
    assert (flips.value, flips.n) == (0.5, 2)


def test_a_judge_that_always_prefers_what_it_sees_first_says_nothing() -> None:
    some = [compared(str(i), "base", "first", "first") for i in range(40)]
    won, flips = win_rate(some, seed=0), flip_rate(some, seed=0)
    assert won is not None and flips is not None
    assert (won.value, won.ci95, flips.value) == (0.5, (0.5, 0.5), 1.0)


def test_nothing_decided_is_no_metric() -> None:
    assert win_rate([compared("a", "base", None, None)], seed=0) is None
    assert flip_rate([same_text("a", "base")], seed=0) is None
