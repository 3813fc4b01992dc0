"""Win rates with hand-counted pairs."""

from __future__ import annotations

import math

import pytest

from rayalign.evaluation.win_rate import repeated_win_rate, win_rate


def test_counts_every_pair_and_ties_as_half() -> None:
    """Prompt a: (2, 1) against (1, 0): 2>1, 2>0, 1=1, 1>0 -> 3.5 / 4 = 0.875. Prompt b: 0 against 1 -> 0.

    Mean over prompts: 0.4375 (over pairs it would be 3.5 / 5 = 0.7). Pairs: 4 + 1.
    """
    metric = win_rate({"a": [2.0, 1.0], "b": [0.0]}, {"a": [1.0, 0.0], "b": [1.0]}, seed=0)
    assert metric is not None
    assert metric.value == 0.4375
    assert metric.n == 5
    # Wilson's interval with t(1) = 12.7: two prompts say next to nothing. Resampling them gave (0, .875).
    assert metric.ci95 == pytest.approx((0.0015, 0.9974), abs=1e-4)


def test_swapping_sides_gives_the_complement() -> None:
    ours = {"a": [0.1, 0.9, 0.5], "b": [0.2], "c": [0.7, 0.7]}
    theirs = {"a": [0.5, 0.4], "b": [0.3, 0.2], "c": [0.7]}
    forward, backward = win_rate(ours, theirs, seed=0), win_rate(theirs, ours, seed=0)
    assert forward is not None and backward is not None
    assert forward.value + backward.value == pytest.approx(1.0)
    assert forward.value != 0.5


def test_same_answers_are_a_tie() -> None:
    rewards = {"a": [1.0, 0.0], "b": [0.5]}
    metric = win_rate(rewards, rewards, seed=0)
    assert metric is not None
    assert (metric.value, metric.ci95) == (0.5, (0.5, 0.5))


def test_missing_rewards_and_prompts_are_left_out() -> None:
    """Only a: (1, -) against (0, -) can be compared: one pair, won. As 0, the missing reward would tie with 0."""
    metric = win_rate(
        {"a": [1.0, None], "b": [None], "c": [0.0], "ours": [0.0]},
        {"a": [0.0, None], "b": [1.0], "c": [None], "theirs": [1.0]},
        seed=0,
    )
    assert metric is not None
    assert (metric.value, metric.n, metric.ci95) == (1.0, 1, (1.0, 1.0))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [({}, {}), ({"a": [1.0]}, {"b": [0.0]}), ({"a": [None]}, {"a": [1.0]}), ({"a": []}, {"a": [1.0]})],
)
def test_nothing_comparable_is_none(ours: dict, theirs: dict) -> None:
    assert win_rate(ours, theirs, seed=0) is None


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="prompt a is NaN"):
        win_rate({"a": [math.nan]}, {"a": [1.0]}, seed=0)


def test_infinite_rewards_still_compare() -> None:
    metric = win_rate({"a": [math.inf]}, {"a": [5.0]}, seed=0)
    assert metric is not None
    assert metric.value == 1.0


def test_interval_has_no_dice() -> None:
    """30 prompts, a third each lost, tied and won: variance of the rate (1/6) / 29, of 1/4 that is 43.5 values; half
    width t * sqrt(1/4 / 43.5 + t2 / 4 / 43.5**2) / (1 + t2 / 43.5) = .1749 with t(29) = 2.0452. No seed changes it."""
    ours = {f"p{index}": [float(index % 3)] for index in range(30)}
    theirs = {f"p{index}": [1.0] for index in range(30)}
    intervals = {metric.ci95 for seed in range(8) if (metric := win_rate(ours, theirs, seed=seed))}
    assert [pytest.approx((0.5 - 0.1749, 0.5 + 0.1749), abs=1e-4)] == [*intervals]


def test_repeats_are_compared_one_by_one() -> None:
    """Prompt a wins in the first repeat and loses in the second, b ties and is missing in the second: a 1/2, b 1/2."""
    metric = repeated_win_rate(
        [{"a": [1.0], "b": [0.0]}, {"a": [0.0], "b": [None]}],
        [{"a": [0.0], "b": [0.0]}] * 1 + [{"a": [1.0], "b": [0.0]}],
        seed=0,
    )
    assert metric is not None and (metric.value, metric.n) == (0.5, 3)
