"""The spread of a round's rewards, the alpha that is taken from it, and the weight that the best answers have."""

from __future__ import annotations

import dataclasses
import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, strategies as st
from pydantic import TypeAdapter

from rayalign.config.objective import KWayObjective, NCAObjective, Objective
from rayalign.data.reward_scale import RewardScale, known_alphas, measure, together
from rayalign.learning.objective import automatic_alpha, settled
from rayalign.loop.run import run_rounds
from rayalign.losses import nca_loss
from rayalign.store.group_parts import groups_of
from rayalign.store.tables import read_parquet
from tests.fakes import make_config, make_run

FINITE = st.floats(-1e6, 1e6)
ROUND = st.lists(st.lists(st.none() | FINITE, max_size=5), max_size=8)


def kway(**settings: Any) -> KWayObjective:
    return TypeAdapter[Any](Objective).validate_python({"type": "nca", **settings})


def test_by_hand() -> None:
    """Deviations: of 1, 3 it is 1; of 0, 0, 3 sqrt((1 + 1 + 4) / 3) = sqrt 2; equal rewards and one alone do not count.

    Shares at alpha 2: 1 / (1 + e^-1) and 1 / (1 + 2 e^-1.5).
    """
    rewards = [[1.0, None, 3.0], [0.0, 3.0, 0.0], [5.0, 5.0], [7.0, None], []]
    scale = measure(rewards, {"nca": 2.0})
    shares = (1 / (1 + math.exp(-1)) + 1 / (1 + 2 * math.exp(-1.5))) / 2
    assert scale.prompts == 2
    assert scale.stats() == pytest.approx(
        {"reward_spread": (1 + math.sqrt(2)) / 2, "reward_levels": 3.0, "best_share/nca": shares}, rel=1e-14
    )


def test_answers_of_the_highest_reward_count_together() -> None:
    """Weights of 9, 9, 8 at alpha .1 are 1, 1 and e^-10 over their sum."""
    assert measure([[9.0, 9.0, 8.0]], {"nca": 0.1}).shares["nca"] == pytest.approx(2 / (2 + math.exp(-10)), rel=1e-15)


@given(ROUND, st.integers(1, 4))
def test_parts_of_a_round_give_what_the_whole_gives(groups: list[list[float | None]], count: int) -> None:
    whole = measure(groups, {"nca": 0.1, "info_nca": 3.0})
    parts = together([measure(groups[start::count], {"nca": 0.1, "info_nca": 3.0}) for start in range(count)])
    assert (parts.prompts, parts.levels) == (whole.prompts, whole.levels)
    assert parts.stats() == pytest.approx(whole.stats(), rel=1e-12)


@given(ROUND.flatmap(lambda groups: st.permutations(groups)))
def test_the_order_of_the_groups_does_not_matter(groups: list[list[float | None]]) -> None:
    assert measure(groups, {"nca": 0.1}) == measure(sorted(groups, key=repr), {"nca": 0.1})


@pytest.mark.parametrize("scale", [1e-9, 0.1, 10.0, 1e9])
@pytest.mark.parametrize("shift", [0.0, -3.0])
def test_auto_gives_the_same_weights_on_every_scale(scale: float, shift: float) -> None:
    """Ratings of 1 to 10 and the same between 0 and 1 teach the same: the loss and its gradient are equal."""
    generator = random.Random(0)
    ratings = [[float(generator.randint(1, 10)) for _ in range(4)] for _ in range(6)]

    def learned(rewards: list[list[float]]) -> tuple[float, torch.Tensor]:
        (objective,) = settled([kway(alpha="auto")], 1, measure(rewards, {}).spread)
        assert isinstance(objective, NCAObjective)
        policy = torch.linspace(-2, 1, 24, dtype=torch.float64).reshape(6, 4).requires_grad_()
        zeros, given_GK = torch.zeros_like(policy), torch.tensor(rewards, dtype=torch.float64)
        loss = nca_loss(policy, zeros, given_GK, alpha=objective.alpha_at(1), beta=0.3).loss
        (gradient,) = torch.autograd.grad(loss, policy)
        return float(loss.detach()), gradient

    loss, gradient = learned(ratings)
    other, other_gradient = learned([[scale * (reward + shift) for reward in row] for row in ratings])
    assert other == pytest.approx(loss, rel=1e-9)
    torch.testing.assert_close(other_gradient, gradient, rtol=1e-7, atol=1e-12)


def test_groups_without_a_difference_change_nothing() -> None:
    """So that `groups.drop_equal_rewards` does not change alpha."""
    assert measure([[0.0, 1.0], [1.0, 1.0], [0.5]], {"nca": 0.1}) == measure([[0.0, 1.0]], {"nca": 0.1})


@pytest.mark.parametrize("rewards", [[], [[]], [[1.0, 1.0]], [[None, 2.0]], [[0.1 + 0.2, 0.3]]])
def test_where_no_rewards_differ_auto_is_one(rewards: list[list[float | None]]) -> None:
    """0.1 + 0.2 and 0.3 differ by a rounding, which would else be blown up to the whole weight."""
    scale = together([measure(rewards, {"nca": 0.1})])
    assert scale.stats() == {"reward_spread": 0.0}
    assert kway(alpha="auto").alpha_at(1, scale.spread) == 1.0


def test_the_largest_numbers_do_not_overflow() -> None:
    scale = together([measure([[1.7e308, -1.7e308]] * 3, {"nca": 0.1})] * 2)
    assert scale.spread == pytest.approx(1.7e308) and scale.shares == {"nca": 1.0}


def test_only_an_alpha_that_is_auto_is_settled_by_the_rewards() -> None:
    fixed, moving = kway(alpha=0.4), kway(alpha={"start": 0.3, "end": 0.1, "rounds": 3})
    auto = TypeAdapter[Any](Objective).validate_python({"type": "info_nca", "alpha": "auto"})
    assert known_alphas([fixed], 2) == {"nca": 0.4}
    assert known_alphas([moving, auto], 2) == {"nca": pytest.approx(0.2)}
    assert settled([fixed, auto], 2, 1.5)[0] is fixed
    assert settled([fixed, auto], 2, 1.5)[1].alpha == 1.5  # type: ignore[union-attr]
    assert automatic_alpha([fixed, auto], 2, 1.5) == {"alpha": 1.5}
    assert automatic_alpha([fixed, moving], 2, 1.5) == {}


def test_auto_without_a_spread_is_an_error() -> None:
    with pytest.raises(ValueError, match="was not measured"):
        kway(alpha="auto").alpha_at(1)


def test_a_scale_travels_as_json() -> None:
    scale = measure([[0.1, 0.7], [1.0, 3.0, 2.0]], {"nca": 0.1})
    assert RewardScale(**json.loads(json.dumps(dataclasses.asdict(scale)))) == scale


@pytest.mark.parametrize("drop", [False, True])
def test_tasks_measure_the_groups_that_they_keep(tmp_path: Path, drop: bool) -> None:
    """The two shards of a round built apart, as tasks do: what they measured is what the files hold."""
    from rayalign.actors.groups import GroupMaker
    from rayalign.data.group_recipe import GroupRecipe

    config = make_config(run={"name": "fake", "rounds": 1}, groups={"drop_equal_rewards": drop, "normalise": "center"})
    run = make_run(tmp_path, config)
    run_rounds(run)
    round_dir = run.run_dir.round(1)
    maker = GroupMaker(round_dir, GroupRecipe(config), None, run.run_dir.date)  # type: ignore[arg-type]
    written = [maker.write(part, [part]) for part in (0, 1)]
    groups = groups_of([part for part, _ in written], {})
    kept = [row["rewards"] for name in groups.files for row in read_parquet(run.run_dir.root / name)]
    scale = together([scale for _, scale in written])
    assert scale.stats() == pytest.approx(measure(kept, {"nca": 0.1}).stats(), rel=1e-12)
    assert scale.prompts == (len(kept) if drop else sum(len(set(rewards)) > 1 for rewards in kept)) > 0
