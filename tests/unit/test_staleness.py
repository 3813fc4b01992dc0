"""`loop.max_staleness: 1`: the next round's responses are sampled while a round trains."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from rayalign.data.drawing import draw_prompts
from rayalign.errors import AdapterVersionError, GuardError, SyncError
from rayalign.loop.round import Run
from rayalign.loop.run import run_rounds
from rayalign.records import AdapterFiles, UpdateResult
from rayalign.store.damage import damaged
from rayalign.store.run_dir import RunDir
from rayalign.store.tables import read_parquet
from tests.fakes import Fuse, Killed, make_config, make_run, no_thread_is_left

OVERLAPPING = {"loop": {"max_staleness": 1}}
ROUNDS = (1, 2, 3)


def make(root: Path, fuse: Fuse | None = None, **changes: Any) -> Run:
    return make_run(root, make_config(**{**OVERLAPPING, **changes}), fuse)


def samplers(run_dir: RunDir) -> list[set[int]]:
    """Versions of the adapter that made each round's training samples."""
    folders = [run_dir.round(index).root / "samples" for index in ROUNDS]
    return [{row["adapter_version"] for name in at.names() for row in read_parquet(at / name)} for at in folders]


def commits(run_dir: RunDir) -> list[dict[str, Any]]:
    return [json.loads((one.root / "COMMIT.json").read_text())["commits"] for one in run_dir.rounds()[1:]]


def adapters(run_dir: RunDir) -> list[tuple[str, int]]:
    found = [one["adapter"]["adapter"] for one in commits(run_dir)]
    return [(one["sha256"], one["parent"]) for one in found]


def watch_updates(run: Run, before: Callable[[int], object]) -> list[int | None]:
    """Have `before` called in each update; returns the versions that its groups were sampled by, null for the base."""
    told: list[int | None] = []
    update = run.parts.learner.update

    def watched(
        index: int, groups: Any, parent: AdapterFiles | None, sampler: AdapterFiles | None, rate: float
    ) -> UpdateResult:
        told.append(sampler.version if sampler else None)
        before(index)
        return update(index, groups, parent, sampler, rate)

    run.parts.learner.update = watched  # type: ignore[method-assign]
    return told


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = make(tmp_path_factory.mktemp("whole"))
    run_rounds(run)
    return run


def test_a_round_is_sampled_while_the_one_before_it_trains(tmp_path: Path, wait_for: Callable) -> None:
    """The update of round 1 waits for samples of round 2, of which there would be none in turns."""
    run = make(tmp_path)
    asked = run.parts.generator.asked

    def wait_for_samples(index: int) -> None:
        if index < ROUNDS[-1]:
            wait_for(lambda: ("train", index + 1) in {one[:2] for one in asked}, 60)

    told = watch_updates(run, wait_for_samples)
    run_rounds(run)
    assert samplers(run.run_dir) == [{0}, {0}, {1}]
    assert [parent for _, parent in adapters(run.run_dir)] == [0, 1, 2]
    assert told == [None, None, 1], "the reference is the policy that sampled"
    assert [one.report()["sampled_by"] for one in run.run_dir.rounds()[1:]] == [0, 0, 1]
    assert run.parts.generator.loads == [0, 1, 2, 3]


def test_no_other_adapter_is_served_before_all_samples_are_there(tmp_path: Path) -> None:
    """Sampling lasts longer than the update: the next adapter waits for it."""
    run = make(tmp_path)
    trained, generator = threading.Event(), run.parts.generator
    watch_updates(run, lambda _: trained.set())
    sample = generator.sample

    def slow(shards: Any, plan: Any, adapter: Any) -> Any:
        ahead = plan.purpose == "train" and plan.round_index > 1
        if ahead:
            assert trained.wait(60)
            trained.clear()
        for one in sample(shards, plan, adapter):
            assert generator.held == adapter.version
            yield one

    generator.sample = slow
    run_rounds(run)
    assert samplers(run.run_dir) == [{0}, {0}, {1}]


@pytest.mark.parametrize("ticks", range(0, 51, 4))
def test_killed_anywhere_and_resumed_gives_the_same_run(
    tmp_path: Path, whole: Run, wait_for: Callable, ticks: int
) -> None:
    with pytest.raises(Killed):
        run_rounds(make(tmp_path, Fuse(ticks)))
    no_thread_is_left(wait_for)
    assert damaged(RunDir(tmp_path)) == [], "a round that waits for another to end is no damage"
    resumed = make(tmp_path)
    run_rounds(resumed)
    assert adapters(resumed.run_dir) == adapters(whole.run_dir)
    assert samplers(resumed.run_dir) == samplers(whole.run_dir)


def test_a_round_that_cannot_be_sampled_loses_no_update(tmp_path: Path, wait_for: Callable) -> None:
    run = make(tmp_path, groups={"drop_equal_rewards": True})
    reward_of = run.parts.scorer.reward_of
    run.parts.scorer.reward_of = lambda sample: 1.0 if ahead.is_set() else reward_of(sample)
    ahead = threading.Event()
    sample = run.parts.generator.sample

    def noting(shards: Any, plan: Any, adapter: Any) -> Any:
        if (plan.purpose, plan.round_index) == ("train", 2):
            ahead.set()
        yield from sample(shards, plan, adapter)

    run.parts.generator.sample = noting
    with pytest.raises(GuardError, match="round 2: no training group"):
        run_rounds(run)
    no_thread_is_left(wait_for)
    assert run.run_dir.round(1).adapter() is not None and not run.run_dir.round(1).finished
    resumed = make(tmp_path, groups={"drop_equal_rewards": True})
    told = watch_updates(resumed, lambda _: None)
    with pytest.raises(GuardError, match="round 2: no training group"):
        run_rounds(resumed)
    assert told == [], "round 1 is not trained again"


def test_an_adapter_that_is_not_proven_is_tried_again_with_the_same_samples(tmp_path: Path, whole: Run) -> None:
    run = make(tmp_path)
    run.parts.generator.serves = lambda version: 0
    with pytest.raises(SyncError):
        run_rounds(run)
    assert run.run_dir.round(2).sampler() == 0
    resumed = make(tmp_path)
    run_rounds(resumed)
    assert adapters(resumed.run_dir) == adapters(whole.run_dir)


def test_prompts_that_another_adapter_has_begun_to_answer_are_answered_by_it(tmp_path: Path) -> None:
    """Whatever the loop would serve: it is served until the round's samples are there, and is their reference."""
    run_rounds(make_run(tmp_path, make_config(run={"name": "fake", "rounds": 1})))
    run = make_run(tmp_path, make_config(run={"name": "fake", "rounds": 2}))
    ids = draw_prompts(run.train_ids_N, run.config.run.seed, 2, run.config.prompts.per_round)
    run.run_dir.round(2).write_prompts(run.prompts.stream(ids), sampler=0)
    told = watch_updates(run, lambda _: None)
    run_rounds(run)
    assert run.parts.generator.loads == [0, 1, 0, 1, 2]
    assert samplers(run.run_dir)[1] == {0} and told == [None]
    assert [parent for _, parent in adapters(run.run_dir)] == [0, 1]


def test_a_generator_that_moves_on_too_early_is_refused(tmp_path: Path, wait_for: Callable) -> None:
    """Who serves another version answers for none: an error, never samples of the wrong adapter."""
    run = make(tmp_path)
    generator = run.parts.generator

    def move_on(index: int) -> None:
        generator.held = 7

    watch_updates(run, move_on)
    sample = generator.sample

    def late(shards: Any, plan: Any, adapter: Any) -> Any:
        if plan.round_index > 1:
            wait_for(lambda: generator.held == 7, 60)
        yield from sample(shards, plan, adapter)

    generator.sample = late
    with pytest.raises(AdapterVersionError, match="holds 7"):
        run_rounds(run)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"cluster": {"placement": "colocated"}}, "loop.max_staleness 1 with cluster.placement colocated"),
        ({"evaluation": {"gate": {}}}, "loop.max_staleness 1 with evaluation.gate.action restore_best"),
        ({"evaluation": {"gate": {"action": "stop"}}}, "with evaluation.gate.action stop"),
        ({"samples": {"source": "answers.jsonl"}, "sampling": {}}, "loop.max_staleness 1 with samples.source"),
        ({"loop": {"max_staleness": 2}}, "max_staleness"),
    ],
)
def test_what_cannot_overlap_is_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        make_config(**{**OVERLAPPING, **changes})
    if "loop" not in changes:
        make_config(**changes)


def test_a_gate_that_only_says_so_is_none() -> None:
    assert make_config(**OVERLAPPING, evaluation={"gate": {"action": "keep"}}).loop.max_staleness == 1
