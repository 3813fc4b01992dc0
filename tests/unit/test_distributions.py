"""Charts of single answers: shares, win rates and means derived by hand."""

from __future__ import annotations

import numpy as np
import pytest

from rayalign.dashboard.distributions import (
    BINS,
    LEVELS,
    MOST_DOTS,
    MOST_ROUNDS,
    length_against_reward,
    reward_spread,
    win_matrix,
    win_rate,
    win_rates,
)
from rayalign.dashboard.held_out import HeldOut
from tests.unit.test_charts import there

NAN = float("nan")


def held_out(index: int, rewards: list[list[float]], prompts: str = "abcdefghij") -> HeldOut:
    rewards_PK = np.array(rewards)
    return HeldOut(
        index, tuple(prompts[: len(rewards)]), rewards_PK, np.arange(1.0, rewards_PK.size + 1).reshape(rewards_PK.shape)
    )


def test_win_rate_counts_all_pairs_of_a_prompt_and_ties_half() -> None:
    """a: 1 beats 0 and ties 1, 2 beats both: 3.5 of 4. b: 0 loses to 5, a missing reward has no pair: 0 of 1.
    c is on one side only. Mean over prompts (.875 + 0) / 2."""
    one = held_out(3, [[1, 2], [0, NAN], [9, 9]])
    other = held_out(1, [[0, 1], [5, NAN]])
    found = win_rate(one, other)
    assert found is not None
    assert (found.round, found.baseline, found.prompts) == (3, 1, 2) and found.rate == pytest.approx(0.4375)
    assert found.half == pytest.approx(1.96 * np.std([0.875, 0], ddof=1) / 2**0.5)


def test_rounds_that_share_no_reward_are_not_compared() -> None:
    assert win_rate(held_out(0, [[1.0]], "a"), held_out(1, [[1.0]], "b")) is None
    assert win_rate(held_out(0, [[NAN]]), held_out(1, [[1.0]])) is None
    assert win_rates([held_out(0, [[1.0]])]) == [] and win_matrix([]) is None


def test_matrix_has_both_sides_of_every_pair() -> None:
    rounds = [held_out(index, [[float(index)], [0.0]]) for index in range(3)]
    chart = there(win_matrix(win_rates(rounds)))
    cells = {(row["y"], row["x"]): row["v"] for row in chart.spec["data"]["values"]}
    assert cells == {(0, 1): 0.25, (0, 2): 0.25, (1, 0): 0.75, (1, 2): 0.25, (2, 0): 0.75, (2, 1): 0.75}
    colours = chart.spec["layer"][0]["encoding"]["color"]["scale"]
    assert len(colours["range"]) == len(LEVELS) + 1
    assert chart.alt == "Round 2 wins 75.0 % of comparisons with round 0."


def test_of_many_rounds_the_first_the_last_and_some_between_are_compared() -> None:
    found = win_rates([held_out(index, [[float(index)], [1.0]]) for index in range(100)])
    rounds = {one.round for one in found}
    assert len(rounds) == MOST_ROUNDS and {0, 99} <= rounds and len(found) == MOST_ROUNDS * (MOST_ROUNDS - 1)


def test_rewards_of_a_round_add_up() -> None:
    """Four answers from 0 to 24 in 24 bins of width 1: two in the first, one at 12, one in the last."""
    chart = there(reward_spread([held_out(0, [[0.0, 0.5], [12.0, NAN], [24.0, NAN]]), held_out(1, [[NAN]], "a")]))
    cells, middle = (layer["data"]["values"] for layer in chart.spec["layer"][:2])
    assert [(row["x"], row["lo"], row["hi"], row["n"]) for row in cells] == [
        (0, 0, 1, 0.5), (0, 12, 13, 0.25), (0, BINS - 1, BINS, 0.25)
    ]  # fmt: skip
    assert middle == [{"x": 0, "q1": 0.375, "m": 6.25, "q3": 15.0}]
    assert chart.alt == "Median reward 6.250 in round 0."


@pytest.mark.parametrize("rewards", [[[1.0]], [[0.0, 0.0]], [[-1e80, 1e80]]])
def test_odd_rewards_are_drawn(rewards: list[list[float]]) -> None:
    there(reward_spread([held_out(0, rewards)]))
    there(length_against_reward([held_out(0, rewards)]))


def test_no_rewards_no_charts() -> None:
    nothing = [held_out(0, [[NAN]])]
    assert reward_spread(nothing) is None and length_against_reward(nothing) is None and reward_spread([]) is None


def test_length_against_reward_has_the_first_and_the_latest_round() -> None:
    chart = there(length_against_reward([held_out(index, [[float(index)] * 2]) for index in range(3)]))
    dots, lines = (layer["data"]["values"] for layer in chart.spec["layer"])
    assert [(row["s"], row["x"], row["y"]) for row in dots] == [
        ("round 0", 1, 0), ("round 0", 2, 0), ("round 2", 1, 2), ("round 2", 2, 2)
    ]  # fmt: skip
    assert {row["s"] for row in lines} == {"round 0", "round 2"} and chart.legend == ("round 0", "round 2")


def test_few_of_many_answers_are_drawn_and_all_are_counted() -> None:
    """Lengths 1 to 4,000, reward half the length: the line goes through the mean of each eighth."""
    tokens = np.arange(1.0, 4001).reshape(1000, 4)
    one = HeldOut(0, tuple(f"{place:04d}" for place in range(1000)), tokens / 2, tokens)
    chart = there(length_against_reward([one]))
    dots, lines = (layer["data"]["values"] for layer in chart.spec["layer"])
    assert len(dots) == MOST_DOTS and sum(row["n"] for row in lines) == 4000
    assert all(row["y"] == pytest.approx(row["x"] / 2, rel=1e-3) for row in lines)
    assert [row["n"] for row in lines] == [500] * 8
