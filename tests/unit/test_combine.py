"""Several rewards as one, and each scorer's scale: by hand, and for any numbers."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from rayalign.errors import DataError
from rayalign.scoring.calibration import Line, calibrate, fit_line, rank, read_line, zscore
from rayalign.scoring.combine import (
    combine,
    combine_asking,
    mean_minus_std,
    undecided,
    weighted_mean,
    weighted_min,
    weighted_sum,
)

NUMBERS = st.floats(-1e6, 1e6)
MAYBE = st.none() | NUMBERS
KINDS = ("weighted_sum", "weighted_mean", "min", "mean_minus_std")


@pytest.mark.parametrize(
    ("rewards", "weights", "total"),
    [
        ([0.5], [1.0], 0.5),
        ([0.5, 0.25], [2.0, -1.0], 0.75),
        ([0.0, 0.0], [1.0, 1.0], 0.0),
        ([0.5, None], [1.0, 1.0], None),
        ([None, 0.5], [0.5, 1.0], None),
        ([0.5, None], [2.0, 0.0], 1.0),
        ([0.5, 8.0], [2.0, 0.0], 1.0),
        ([0.5], [0.0], None),
    ],
)
def test_weighted_sum(rewards: list[float | None], weights: list[float], total: float | None) -> None:
    """2 * 0.5 - 1 * 0.25 = 0.75; a missing score with a weight makes the sum missing, without a weight nothing."""
    assert weighted_sum(rewards, weights) == total


def test_weighted_mean_divides_by_the_weights() -> None:
    """(1 * 0.2 + 3 * 0.6) / 4 = 0.5; with a penalty (2 * 0.5 - 1 * 0.25) / 3 = 0.25."""
    assert weighted_mean([0.2, 0.6], [1.0, 3.0]) == pytest.approx(0.5)
    assert weighted_mean([0.5, 0.25], [2.0, -1.0]) == pytest.approx(0.25)
    assert weighted_mean([0.2, None], [1.0, 1.0]) is None


def test_min_takes_the_worst() -> None:
    assert weighted_min([0.9, 0.1, -5.0], [1.0, 1.0, 0.0]) == 0.1
    assert weighted_min([0.9, 0.5], [0.5, 1.0]) == 0.45
    assert weighted_min([0.9, None], [1.0, 1.0]) is None


def test_mean_minus_std() -> None:
    """1 and 3: mean 2, population standard deviation 1. 2 - 0.5 * 1 = 1.5."""
    assert mean_minus_std([1.0, 3.0], [1.0, 1.0], 0.5) == 1.5
    assert mean_minus_std([1.0, 3.0], [1.0, 1.0], 0.0) == 2.0
    assert mean_minus_std([2.0], [1.0], 7.0) == 2.0
    assert mean_minus_std([1.0, None], [1.0, 1.0], 1.0) is None


@pytest.mark.parametrize("kind", KINDS)
@given(rewards=st.lists(MAYBE, min_size=1, max_size=5))
def test_missing_stays_missing(kind: str, rewards: list[float | None]) -> None:
    found = combine(rewards, [1.0] * len(rewards), kind)
    assert (found is None) == (None in rewards)


@pytest.mark.parametrize("kind", KINDS)
@given(rewards=st.lists(NUMBERS, min_size=1, max_size=4), ignored=MAYBE)
def test_a_scorer_without_weight_changes_nothing(kind: str, rewards: list[float], ignored: float | None) -> None:
    weights = [1.0] * len(rewards)
    assert combine([*rewards, ignored], [*weights, 0.0], kind) == combine(rewards, weights, kind)


@given(rewards=st.lists(NUMBERS, min_size=1, max_size=5))
def test_the_cautious_ways_are_below_the_mean(rewards: list[float]) -> None:
    weights = [1.0] * len(rewards)
    mean = weighted_mean(rewards, weights)
    assert mean is not None
    for kind in ("min", "mean_minus_std"):
        found = combine(rewards, weights, kind)
        assert found is not None and found <= mean + 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_weights_and_rewards_must_fit(kind: str) -> None:
    with pytest.raises(ValueError, match="zip"):
        combine([1.0], [1.0, 1.0], kind)


def test_an_overflow_is_missing() -> None:
    assert weighted_sum([1e308, 1e308], [1.0, 1.0]) is None
    for kind in KINDS:
        assert combine([-1e308, 1e308], [10.0, 1.0], kind) is None
    assert mean_minus_std([1e200, -1e200], [1.0, 1.0], 1.0) is None


def test_the_judge_is_asked_where_reward_models_disagree() -> None:
    """Differences 0.1, 0.5, missing, 0 against a threshold of 0.2: the second and the third need asking."""
    assert undecided([[0.5, 0.5, None, 1.0], [0.6, 1.0, 0.5, 1.0]], 0.2) == [1, 2]
    assert undecided([[0.0], [0.2]], 0.2) == []
    assert undecided([[1.0, 5.0]], 0.0) == []
    with pytest.raises(ValueError, match="zip"):
        undecided([[1.0], [1.0, 2.0]], 0.2)


def test_the_asked_reward_stands_in_for_those_of_the_others() -> None:
    """Weights 1 and 3. Agreed: 0.2 + 3 * 0.2. Asked: 4 * 0.5, also where another is missing; no reward without its."""
    others = [[0.2, 0.0, None, 1.0], [0.2, 1.0, 0.3, 0.0]]
    asked = [9.0, 0.5, 0.5, None]
    found = combine_asking(others, [1.0, 3.0], asked, undecided(others, 0.5), "weighted_sum")
    assert found == [pytest.approx(0.8), 2.0, 2.0, None]
    assert combine_asking(others, [1.0, 3.0], asked, [1], "weighted_mean")[:2] == [pytest.approx(0.2), 0.5]
    assert combine_asking(others, [1.0, 3.0], asked, [1], "min")[1] == 0.5
    assert combine_asking(others, [2.0, 2.0], asked, [1], "mean_minus_std", 7.0)[1] == 1.0


@pytest.mark.parametrize("kind", ("weighted_sum", "weighted_mean", "min", "mean_minus_std"))
@given(rewards=st.lists(st.integers(-9, 9).map(float), max_size=6))
def test_asking_one_that_agrees_changes_nothing(kind: str, rewards: list[float]) -> None:
    """The same scale whether asked or not."""
    columns = [rewards, rewards]
    none, every = [combine_asking(columns, [1.0, 2.0], rewards, places, kind) for places in ([], range(len(rewards)))]
    assert none == pytest.approx(every)


def test_zscore_by_hand() -> None:
    """1, 2, 3: mean 2, population variance 2/3."""
    assert zscore([1.0, None, 2.0, 3.0]) == pytest.approx([-math.sqrt(1.5), None, 0.0, math.sqrt(1.5)])
    assert zscore([0.1, 0.1, 0.1]) == [0.0, 0.0, 0.0]
    assert zscore([1e308, -1e308]) == zscore([1e-300, -1e-300]) == [1.0, -1.0]
    assert zscore([5.0]) == [0.0]
    assert zscore([None, None]) == [None, None]
    assert zscore([]) == []


def test_rank_by_hand() -> None:
    """Of 10, 30, 20, 20 the places are 0, 3, 1.5, 1.5 of 3."""
    assert rank([10.0, 30.0, None, 20.0, 20.0]) == [0.0, 1.0, None, 0.5, 0.5]
    assert rank([7.0, 7.0]) == [0.5, 0.5]
    assert rank([7.0, None]) == [0.5, None]
    assert rank([None]) == [None]


@given(st.lists(MAYBE, max_size=12))
def test_rank_keeps_order_and_range(rewards: list[float | None]) -> None:
    places = rank(rewards)
    known = [(reward, place) for reward, place in zip(rewards, places, strict=True) if reward is not None]
    assert [place is None for place in places] == [reward is None for reward in rewards]
    assert all(place is not None and 0 <= place <= 1 for _, place in known)
    for reward, place in known:
        for other, other_place in known:
            assert (reward < other) == (place < other_place)
    if known:
        assert math.fsum(place for _, place in known if place is not None) / len(known) == pytest.approx(0.5)


@given(st.lists(st.integers(-1000, 1000), min_size=2, max_size=12).filter(lambda xs: len(set(xs)) > 1))
def test_zscore_has_mean_0_and_spread_1(rewards: list[int]) -> None:
    values = [value for value in zscore([float(r) for r in rewards]) if value is not None]
    assert math.fsum(values) == pytest.approx(0.0, abs=1e-9)
    assert math.fsum(value**2 for value in values) / len(values) == pytest.approx(1.0)


@given(st.lists(st.tuples(st.sampled_from("abc"), MAYBE), max_size=15), st.sampled_from(["zscore", "rank"]))
def test_prompts_do_not_touch_each_other(rows: list[tuple[str, float | None]], kind: str) -> None:
    """Interleaved prompts give the same as each alone."""
    ids = [prompt for prompt, _ in rows]
    together = calibrate([reward for _, reward in rows], ids, kind)
    for prompt in set(ids):
        alone = [reward for owner, reward in rows if owner == prompt]
        assert [v for v, owner in zip(together, ids, strict=True) if owner == prompt] == calibrate(
            alone, [prompt] * len(alone), kind
        )


def test_none_and_linear() -> None:
    assert calibrate([1.0, None], ["a", "a"], "none") == [1.0, None]
    assert calibrate([1.0, None], ["a", "a"], "linear", Line(2.0, -1.0)) == [1.0, None]
    assert calibrate([3.0], ["a"], "linear", Line(2.0, -1.0)) == [5.0]


def test_fit_by_hand() -> None:
    """(0, 1), (1, 1), (2, 4): means 1 and 2; slope (-1*-1 + 0 + 1*2) / 2 = 1.5; intercept 2 - 1.5 = 0.5."""
    assert fit_line([(0.0, 1.0), (1.0, 1.0), (2.0, 4.0)]) == Line(1.5, 0.5)


@given(st.integers(-100, 100), st.integers(-100, 100), st.sets(st.integers(-1000, 1000), min_size=2, max_size=10))
def test_points_on_a_line_give_that_line(slope: int, intercept: int, raws: set[int]) -> None:
    line = fit_line([(float(raw), float(slope * raw + intercept)) for raw in raws])
    assert (line.slope, line.intercept) == (pytest.approx(slope, abs=1e-6), pytest.approx(intercept, abs=1e-4))


def test_a_calibration_file(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"raw": 0, "target": 1}\n\n{"raw": 2.0, "target": 5, "note": "x"}\n')
    line = read_line(path)
    assert line == Line(2.0, 1.0)
    assert line.version != Line(2.0, 1.5).version


@pytest.mark.parametrize(
    ("text", "found", "why"),
    [
        ("", "0 rows", "at least two different raw values"),
        ('{"raw": 1, "target": 1}\n{"raw": 1, "target": 2}\n', "2 rows", "at least two different raw values"),
        ('{"raw": 1, "target": 1}\n{"raw": 2}\n', "line 2", "no finite numbers `raw` and `target`"),
        ('{"raw": "1", "target": 1}\n', "line 1", "no finite numbers"),
        ('{"raw": NaN, "target": 1}\n', "line 1", "no finite numbers"),
        ('{"raw": true, "target": 1}\n', "line 1", "no finite numbers"),
        ("[1, 2]\n", "line 1", "no finite numbers"),
        ("raw,target\n", "line 1", "no finite numbers"),
        ('{"raw": 1e308, "target": 1}\n{"raw": -1e308, "target": 2}\n', "2 rows", ""),
    ],
)
def test_bad_calibration_files_say_what_and_why(tmp_path: Path, text: str, found: str, why: str) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        read_line(path)
    assert found in caught.value.found
    assert why in caught.value.why
    assert caught.value.remedy
