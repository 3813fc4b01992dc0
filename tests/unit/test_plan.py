"""The plan of a round: who trains on which groups, when."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from rayalign.learning.plan import Step, plan_steps

SETTINGS: dict[str, Any] = {
    "seed": 0, "round_index": 1, "epochs": 1, "group_batch": 8, "tokens_per_micro_batch": 100, "workers": 2,
}  # fmt: skip


def plan(tokens: list[int], **changes: Any) -> list[Step]:
    return plan_steps(tokens, **{**SETTINGS, **changes})


def groups_of(step: Step) -> list[int]:
    return [group for micro_batches in step.ranks for batch in micro_batches for group in batch]


rounds = st.fixed_dictionaries(
    {
        "tokens": st.lists(st.integers(1, 150), max_size=40),
        "seed": st.integers(0, 2**31 - 1),
        "round_index": st.integers(1, 50),
        "epochs": st.integers(1, 3),
        "group_batch": st.integers(1, 12),
        "tokens_per_micro_batch": st.integers(1, 300),
        "workers": st.integers(1, 4),
    }
)


@given(rounds)
def test_every_group_exactly_once_per_epoch(case: dict[str, Any]) -> None:
    """An epoch is ceil(groups / group_batch) steps; all are full but its last."""
    count, size = len(case["tokens"]), case["group_batch"]
    steps = plan_steps(**case)
    per_epoch = -(-count // size)
    assert len(steps) == case["epochs"] * per_epoch
    for epoch in range(case["epochs"]):
        chosen = steps[epoch * per_epoch : (epoch + 1) * per_epoch]
        assert Counter(g for step in chosen for g in groups_of(step)) == Counter(range(count))
        assert [step.groups for step in chosen[:-1]] == [size] * (per_epoch - 1)


@given(rounds)
def test_ranks_have_equally_many_micro_batches_and_none_is_empty_for_all(case: dict[str, Any]) -> None:
    for step in plan_steps(**case):
        assert len(step.ranks) == case["workers"]
        (micro_batches,) = {len(rank) for rank in step.ranks}
        for i in range(micro_batches):
            assert any(rank[i] for rank in step.ranks)
        assert step.groups == len(groups_of(step)) > 0


@given(rounds)
def test_budget_holds_unless_one_group_exceeds_it(case: dict[str, Any]) -> None:
    for step in plan_steps(**case):
        for batch in (batch for rank in step.ranks for batch in rank):
            assert len(batch) <= 1 or sum(case["tokens"][g] for g in batch) <= case["tokens_per_micro_batch"]


@given(rounds)
def test_same_groups_per_step_for_any_number_of_workers(case: dict[str, Any]) -> None:
    """So the gradient of a step, a sum over its groups, does not depend on how many workers share it."""
    one, *others = [plan_steps(**{**case, "workers": workers}) for workers in (1, 2, 3, 4)]
    for other in others:
        assert [set(groups_of(s)) for s in other] == [set(groups_of(s)) for s in one]
        assert [s.groups for s in other] == [s.groups for s in one]


@given(rounds)
def test_deterministic(case: dict[str, Any]) -> None:
    assert plan_steps(**case) == plan_steps(**{**case, "tokens": tuple(case["tokens"])})


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_the_same_in_another_process(hash_seed: str) -> None:
    """Each rank plans by itself, so nothing may hang on the process's hash seed."""
    tokens = [7 * i % 50 + 1 for i in range(30)]
    code = f"from rayalign.learning.plan import plan_steps; print(plan_steps({tokens}, **{SETTINGS}))"
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    root = Path(__file__).parents[2]
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == str(plan(tokens))


@pytest.mark.parametrize("change", [{"seed": 1}, {"round_index": 2}])
def test_another_seed_or_round_gives_another_order(change: dict[str, int]) -> None:
    """30 groups in steps of 1: two independent shuffles agree once in 30! times."""
    tokens = [10] * 30
    order = [groups_of(step) for step in plan(tokens, group_batch=1)]
    assert order != [groups_of(step) for step in plan(tokens, group_batch=1, **change)]
    assert order != [[group] for group in range(30)]


def test_another_epoch_has_another_order() -> None:
    order = [groups_of(step) for step in plan([10] * 30, group_batch=1, epochs=3)]
    first, second, third = order[:30], order[30:60], order[60:]
    assert first != second != third != first


def test_seed_and_round_are_not_just_added() -> None:
    """Seed 1 in round 2 and seed 2 in round 1 are different shuffles."""
    one, two = ([groups_of(s) for s in plan([10] * 30, group_batch=1, seed=s, round_index=3 - s)] for s in (1, 2))
    assert one != two


def test_ranks_are_balanced_by_tokens() -> None:
    """Largest first to the least loaded: 60 | 50, then 40 to the second (90), 30 to the first (90), 10 to the first.

    By count alone a rank could get 60 + 50 + 40 = 150 of the 190 tokens.
    """
    tokens = [60, 50, 40, 30, 10]
    (step,) = plan(tokens, tokens_per_micro_batch=1000)
    assert step.ranks == (((0, 3, 4),), ((1, 2),))


def test_micro_batches_by_hand() -> None:
    """One rank, budget 100, sizes 120 | 60 + 40 | 30 + 30 + 30: 120 is alone, 60 + 40 fills 100 exactly."""
    (step,) = plan([30, 60, 30, 120, 40, 30], workers=1)
    assert step.ranks == (((3,), (1, 4), (0, 2, 5)),)


def test_short_ranks_get_empty_micro_batches() -> None:
    """Two groups over the budget's half, one each; the third rank has nothing but takes part."""
    (step,) = plan([90, 80], workers=3)
    assert step.ranks == (((0,),), ((1,),), ((),))


def test_no_groups_no_steps() -> None:
    assert plan([]) == []
