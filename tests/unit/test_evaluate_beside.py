"""`loop.evaluate_beside`: a round is evaluated while the next one is sampled, by the same adapter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from rayalign.data.drawing import draw_prompts
from rayalign.errors import GuardError
from rayalign.loop.round import Run
from rayalign.loop.run import run_rounds
from rayalign.store.damage import damaged
from rayalign.store.run_dir import RunDir
from tests.fakes import Fuse, Killed, make_config, make_run, no_thread_is_left

BESIDE = {"loop": {"evaluate_beside": True}}
GPU = {"generators": {"gpus": 1}, "learner": {"gpus": 1}}


def make(root: Path, fuse: Fuse | None = None, **changes: Any) -> Run:
    return make_run(root, make_config(**{**BESIDE, **changes}), fuse)


def reports(run_dir: RunDir) -> list[dict[str, Any]]:
    """What the rounds measured, without times."""
    kept = ("adapter_version", "metrics", "sync", "trust", "scores", "groups", "training", "sampled_by")
    return [{name: one.report().get(name) for name in kept} for one in run_dir.rounds()]


@pytest.fixture(scope="module")
def in_turns(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = make_run(tmp_path_factory.mktemp("turns"), make_config())
    run_rounds(run)
    return run


def test_a_round_is_evaluated_while_the_next_one_is_sampled(tmp_path: Path, wait_for: Callable, in_turns: Run) -> None:
    """Every evaluation waits for samples of the round after it, of which there would be none in turns."""
    run = make(tmp_path)
    asked, sample = run.parts.generator.asked, run.parts.generator.sample

    def waiting(shards: Any, plan: Any, adapter: Any) -> Any:
        if plan.purpose == "evaluation" and plan.round_index < 3:
            wait_for(lambda: ("train", plan.round_index + 1) in {one[:2] for one in list(asked)}, 60)
        yield from sample(shards, plan, adapter)

    run.parts.generator.sample = waiting
    run_rounds(run)
    assert reports(run.run_dir) == reports(in_turns.run_dir)
    assert run.parts.generator.loads == [0, 1, 2, 3]


def test_nothing_is_trained_before_the_round_before_is_finished(tmp_path: Path) -> None:
    run = make(tmp_path)
    update, finished = run.parts.learner.update, list[list[int]]()

    def noting(index: int, *rest: Any) -> Any:
        finished.append([one.index for one in run.run_dir.rounds()])
        return update(index, *rest)

    run.parts.learner.update = noting
    run_rounds(run)
    assert finished == [[0], [0, 1], [0, 1, 2]]


@pytest.mark.parametrize("ticks", range(0, 51, 4))
def test_killed_anywhere_and_resumed_gives_the_same_run(
    tmp_path: Path, in_turns: Run, wait_for: Callable, ticks: int
) -> None:
    with pytest.raises(Killed):
        run_rounds(make(tmp_path, Fuse(ticks)))
    no_thread_is_left(wait_for)
    assert damaged(RunDir(tmp_path)) == [], "a round that waits for another to end is no damage"
    resumed = make(tmp_path)
    run_rounds(resumed)
    assert reports(resumed.run_dir) == reports(in_turns.run_dir)


@pytest.mark.parametrize("purpose", ["train", "evaluation"])
def test_an_error_on_either_side_ends_the_run_and_loses_nothing(
    tmp_path: Path, in_turns: Run, wait_for: Callable, purpose: str
) -> None:
    run = make(tmp_path)
    sample = run.parts.generator.sample

    def failing(shards: Any, plan: Any, adapter: Any) -> Any:
        if plan.purpose == purpose and (plan.round_index, adapter.version) in ((1, 1), (2, 1)):
            raise GuardError(f"{purpose} fails")
        yield from sample(shards, plan, adapter)

    run.parts.generator.sample = failing
    with pytest.raises(GuardError, match=f"{purpose} fails"):
        run_rounds(run)
    no_thread_is_left(wait_for)
    assert run.run_dir.round(1).adapter() is not None
    resumed = make(tmp_path)
    run_rounds(resumed)
    assert reports(resumed.run_dir) == reports(in_turns.run_dir)


def test_where_the_next_round_has_another_sampler_it_is_not_beside(tmp_path: Path) -> None:
    """No other adapter may be served while a round is evaluated."""
    run_rounds(make(tmp_path, run={"name": "fake", "rounds": 1}))
    run = make(tmp_path, run={"name": "fake", "rounds": 3})
    ids = draw_prompts(run.train_ids_N, run.config.run.seed, 3, run.config.prompts.per_round)
    run.run_dir.round(3).write_prompts(run.prompts.stream(ids), sampler=1)
    run_rounds(run)
    assert run.parts.generator.loads == [0, 1, 2, 1, 2, 3]
    assert [one.report()["adapter_version"] for one in run.run_dir.rounds()] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"evaluation": {"gate": {}}}, "evaluate_beside true with evaluation.gate.action restore_best"),
        ({"loop": {"evaluate_beside": True, "max_staleness": 1}}, "evaluate_beside true with loop.max_staleness 1"),
        ({"cluster": {"placement": "colocated", **GPU}}, "generators and learner that take turns"),
    ],
)
def test_what_cannot_be_beside_is_refused_and_left_out_of_auto(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        make_config(**{**BESIDE, **changes})
    loop = {**changes.get("loop", {}), "evaluate_beside": "auto"}
    assert not make_config(**{"cluster": GPU, **changes, "loop": loop}).evaluates_beside


def test_auto_is_beside_where_generators_have_gpus() -> None:
    assert make_config(cluster=GPU).evaluates_beside
    assert not make_config().evaluates_beside
    assert not make_config(cluster=GPU, loop={"evaluate_beside": False}).evaluates_beside
    assert make_config(**BESIDE, evaluation={"gate": {"action": "keep"}}).evaluates_beside
