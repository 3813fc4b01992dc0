"""Held-out prompts and a round's prompts, from ids alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from rayalign.data.drawing import (
    HOLDOUT,
    TRAIN,
    UNMARKED,
    Split,
    as_ids,
    draw_prompts,
    hold_out,
    mark_of,
    split_prompts,
)
from rayalign.errors import DataError

HELD_OUT = ["id6", "id0", "id1"]
DRAWN = ["id9", "id5", "id2", "id10"]


def ids(count: int) -> list[str]:
    return [f"id{number}" for number in range(count)]


def split_of(pairs: Sequence[tuple[str, object]], holdout: int) -> Split:
    """From (id, what the metadata say under `split`)."""
    marks = np.array([mark_of(split) for _, split in pairs], dtype=np.int8)
    return split_prompts(as_ids(identity for identity, _ in pairs), marks, holdout)


def plain(ids_N: np.ndarray) -> list[str]:
    return [identity.decode() for identity in ids_N]


def test_split_is_by_hash_and_not_by_order() -> None:
    pairs = [(identity, None) for identity in ids(100)]
    split = split_of(pairs, 10)
    assert (len(split.train_N), len(split.holdout_N), split.notice) == (90, 10, None)
    assert set(split.train_N).isdisjoint(split.holdout_N)
    assert plain(split_of(pairs[::-1], 10).holdout_N) == plain(split.holdout_N)
    assert plain(split.train_N) == [identity for identity in ids(100) if identity not in plain(split.holdout_N)]
    assert plain(split_of(pairs, 9).holdout_N) == plain(split.holdout_N)[:9]


def test_the_split_of_all_versions() -> None:
    """A run that was begun by another version must find the same prompts held out, and draw the same ones."""
    split = split_of([(identity, None) for identity in ids(12)], 3)
    assert plain(split.holdout_N) == HELD_OUT
    assert plain(draw_prompts(split.train_N, 5, 3, 4)) == DRAWN


@pytest.mark.parametrize(("count", "held"), [(2, 1), (7, 1), (8, 2), (39, 9)])
def test_a_small_source_holds_out_a_quarter_and_says_so(count: int, held: int) -> None:
    split = split_of([(identity, None) for identity in ids(count)], 10)
    assert len(split.holdout_N) == held
    assert split.notice is not None and f"{held} held out instead of 10" in split.notice


def test_marked_splits_are_kept_apart() -> None:
    pairs = [(identity, "holdout" if number < 20 else "train") for number, identity in enumerate(ids(50))]
    split = split_of(pairs, 5)
    assert set(plain(split.holdout_N)) < set(ids(20))
    assert plain(split.train_N) == ids(50)[20:]
    assert split.notice is None
    assert split_of(pairs, 30).notice is not None


def test_only_training_prompts_marked() -> None:
    split = split_of([("a", "train"), ("b", None), ("c", "train")], 1)
    assert (plain(split.train_N), plain(split.holdout_N)) == (["a", "c"], ["b"])


def test_other_marks_are_no_split() -> None:
    split = split_of([("a", "test"), ("b", 7), ("c", None), ("d", "train")], 3)
    assert (plain(split.train_N), sorted(plain(split.holdout_N))) == (["d"], ["a", "b", "c"])


@pytest.mark.parametrize("mark", ["train", "holdout", None])
def test_a_split_with_an_empty_part_is_refused(mark: str | None) -> None:
    pairs = [(identity, mark) for identity in ids(1 if mark is None else 5)]
    with pytest.raises(DataError, match="each part needs at least one"):
        split_of(pairs, 2)


@given(
    count=st.integers(0, 40),
    seed=st.integers(0, 5),
    per_round=st.integers(1, 50),
    rounds=st.integers(1, 12),
    order=st.randoms(use_true_random=False),
)
def test_draws(count: int, seed: int, per_round: int, rounds: int, order: Any) -> None:
    """Of `count` prompts, every round has min(per_round, count) distinct ones, and use stays even."""
    shuffled = ids(count)
    order.shuffle(shuffled)
    uses = dict.fromkeys(shuffled, 0)
    for index in range(1, rounds + 1):
        drawn = plain(draw_prompts(as_ids(shuffled), seed, index, per_round))
        assert len(drawn) == len(set(drawn)) == min(per_round, count)
        assert drawn == plain(draw_prompts(as_ids(ids(count)), seed, index, per_round))
        for identity in drawn:
            uses[identity] += 1
        assert not uses or max(uses.values()) - min(uses.values()) <= 1


def test_draws_depend_on_seed_and_round() -> None:
    every = as_ids(ids(100))
    draws = {tuple(plain(draw_prompts(every, seed, index, 10))) for seed in (0, 1) for index in (1, 2, 3)}
    assert len(draws) == 6


def test_held_out_prompts_of_another_source() -> None:
    """Only those marked, where some are; what both sources have is not trained on."""
    marks = np.array([UNMARKED, HOLDOUT, HOLDOUT, TRAIN])
    split = hold_out(as_ids("abcd"), marks, 5, as_ids("xby"))
    assert sorted(split.holdout_N) == [b"b", b"c"] and list(split.train_N) == [b"x", b"y"]
    assert split.notice is not None and split.notice.startswith("1 prompts of samples.source")
    bare = hold_out(as_ids("abcd"), np.zeros(4), 2, as_ids("x"))
    assert len(bare.holdout_N) == 2 and bare.notice is None
    assert list(hold_out(as_ids("dcba"), np.zeros(4), 2, as_ids("x")).holdout_N) == list(bare.holdout_N)


def test_everything_held_out_leaves_nothing_to_train_on() -> None:
    with pytest.raises(DataError, match=r"all 2 prompts of samples\.source are held out"):
        hold_out(as_ids("ab"), np.zeros(2), 5, as_ids("ab"))
