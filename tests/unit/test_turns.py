"""Generators and learner on one device: a made-up one that holds either of them and not both."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from rayalign import stopping
from rayalign.actors.turns import TurnGenerator, TurnLearner, Turns
from rayalign.errors import InterruptedRunError
from rayalign.loop.round import Parts, Run
from rayalign.loop.run import run_rounds
from rayalign.records import (
    Adapter,
    AdapterFiles,
    ReplicaState,
    SampledShard,
    SamplingPlan,
    Shard,
    TokenSequence,
    UpdateResult,
)
from rayalign.store.run_dir import RunDir
from tests.fakes import FakeGenerator, FakeLearner, Fuse, Killed, make_config, make_run

BASE = Adapter.base("b" * 64)


class Device:
    """80 GiB for whoever comes."""

    def __init__(self) -> None:
        self.held: dict[str, int] = {}

    def allocate(self, who: str, gib: int) -> None:
        self.held[who] = gib
        if sum(self.held.values()) > 80:
            raise MemoryError(f"out of memory: {self.held}")

    def free(self, who: str) -> None:
        self.held.pop(who, None)


class SleepyGenerator(FakeGenerator):
    """Holds 60 GiB awake; works only then."""

    def __init__(self, fuse: Fuse, device: Device) -> None:
        super().__init__(fuse)
        self.device = device
        device.allocate("generator", 60)

    def take(self) -> None:
        self.fuse.tick()
        self.device.allocate("generator", 60)

    def leave(self) -> None:
        self.fuse.tick()
        self.device.free("generator")

    def load(self, adapter: Adapter, files: AdapterFiles | None) -> list[ReplicaState]:
        assert "generator" in self.device.held
        return super().load(adapter, files)

    def sample(self, shards: Iterable[Shard], plan: SamplingPlan, adapter: Adapter) -> Iterator[SampledShard]:
        for shard in super().sample(shards, plan, adapter):
            assert "generator" in self.device.held
            yield shard

    def logps(self, sequences: Sequence[TokenSequence], adapter: Adapter) -> dict[str, list[list[float]]]:
        assert "generator" in self.device.held
        return super().logps(sequences, adapter)


class WaitingLearner(FakeLearner):
    """Holds 50 GiB while it works, and stays until it is told to leave."""

    def __init__(self, run_dir: RunDir, fuse: Fuse, device: Device) -> None:
        super().__init__(run_dir, fuse)
        self.device = device

    def take(self) -> None:
        self.fuse.tick()
        self.device.allocate("learner", 50)

    def leave(self) -> None:
        self.fuse.tick()
        self.device.free("learner")

    def update(self, *given: Any, **more: Any) -> UpdateResult:
        assert "learner" in self.device.held
        return super().update(*given, **more)

    def logps(self, *given: Any, **more: Any) -> list[list[float]]:
        assert "learner" in self.device.held
        return super().logps(*given, **more)


def on_one_device(root: Path, fuse: Fuse | None = None, *, turns: bool = True) -> tuple[Run, list[dict[str, Any]]]:
    """A run whose sides share a device, and the turns that it took."""
    fuse = fuse or Fuse()
    plain = make_run(root, make_config(run={"name": "fake", "rounds": 2}), fuse)
    device, taken = Device(), []
    generator, learner = SleepyGenerator(fuse, device), WaitingLearner(plain.run_dir, fuse, device)
    passing = Turns(
        {"generators": generator, "learner": learner},
        lambda kind, /, **fields: taken.append({"kind": kind, **fields}),
    )
    sides: Any = (TurnGenerator(generator, passing), TurnLearner(learner, passing)) if turns else (generator, learner)
    evaluator: Any = plain.parts.evaluator
    evaluator._generator, evaluator._learner = sides
    old = plain.parts
    parts = Parts(sides[0], old.scorer, old.group_builder, sides[1], evaluator, old.reporter, passing)
    return Run(plain.config, plain.run_dir, parts, plain.prompts, plain.train_ids_N, plain.base_model_sha256), taken


def order(taken: list[dict[str, Any]], round_index: int) -> list[str]:
    return [turn["holder"] for turn in taken if turn["round"] == round_index]


def test_a_run_takes_turns_and_both_never_hold_the_device(tmp_path: Path) -> None:
    """Round 0: learner for the canaries, generators; every other: learner for update and canaries, generators for the
    rest of it, and the learner again for what the evaluation asks."""
    run, taken = on_one_device(tmp_path)
    run_rounds(run)
    holders = [turn["holder"] for turn in taken]
    assert {turn["kind"] for turn in taken} == {"turn"}
    assert all(one != other for one, other in itertools.pairwise(holders))
    assert order(taken, 0) == ["learner", "generators"]
    assert order(taken, 1) == ["learner", "generators", "learner"]
    assert order(taken, 2) == ["generators", "learner", "generators", "learner"]
    for index in (0, 1, 2):
        report = run.run_dir.round(index).report()
        assert report is not None and report["turns"]["count"] == len(order(taken, index)) > 0
        assert report["turns"]["seconds"] >= 0


def test_without_turns_both_would_hold_it(tmp_path: Path) -> None:
    """The device of these tests tells: the learner is not there, and beside the generators it has no room."""
    run, _ = on_one_device(tmp_path, turns=False)
    with pytest.raises(AssertionError):
        run_rounds(run)
    learner: Any = run.parts.learner
    with pytest.raises(MemoryError):
        learner.take()


def adapters(run: Run) -> list[object]:
    return [run.run_dir.round(index).committed("adapter") for index in (1, 2)]


def test_a_run_that_ends_in_any_turn_goes_on_to_the_same_end(tmp_path: Path) -> None:
    """Ended at every change of turns and every piece of work, and started again: the same adapters."""
    whole, _ = on_one_device(tmp_path / "whole")
    run_rounds(whole)
    expected = [found["adapter"]["sha256"] for found in adapters(whole) if isinstance(found, dict)]
    ticks = 0
    while True:
        run, _ = on_one_device(tmp_path / f"killed-{ticks}", Fuse(ticks))
        try:
            run_rounds(run)
            break
        except Killed:
            pass
        again, taken = on_one_device(tmp_path / f"killed-{ticks}")
        run_rounds(again)
        found = [one["adapter"]["sha256"] for one in adapters(again) if isinstance(one, dict)]
        assert found == expected and taken
        ticks += 4
    assert ticks > 20


class Side:
    """Notes when it comes and goes; fails where it is told to."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log, self.fails = name, log, ""

    def take(self) -> None:
        self._do("takes")

    def leave(self) -> None:
        self._do("leaves")

    def _do(self, what: str) -> None:
        if self.fails == what:
            self.fails = ""
            raise RuntimeError(f"{self.name} {what}")
        self.log.append(f"{self.name} {what}")


def two() -> tuple[Turns, Side, Side, list[str]]:
    log: list[str] = []
    generators, learner = Side("generators", log), Side("learner", log)
    return Turns({"generators": generators, "learner": learner}, lambda *_, **__: None), generators, learner, log


def test_nothing_happens_where_it_is_whose_turn_it_was() -> None:
    turns, _, _, log = two()
    with turns.of("generators"):
        pass
    assert log == []
    for _ in range(2):
        with turns.of("learner"):
            log.append("work")
    assert log == ["generators leaves", "learner takes", "work", "work"]


@pytest.mark.parametrize("fails", ["leaves", "takes"])
def test_after_a_turn_that_failed_both_are_asked_again(fails: str) -> None:
    """Nobody knows then who is there: the other side leaves once more before this one comes."""
    turns, generators, learner, log = two()
    (generators if fails == "leaves" else learner).fails = fails
    with pytest.raises(RuntimeError, match=fails), turns.of("learner"):
        raise AssertionError("it has no device")
    log.clear()
    with turns.of("learner"):
        pass
    assert log == ["generators leaves", "learner takes"]


def test_work_that_is_under_way_ends_before_the_turn_passes() -> None:
    turns, _, _, log = two()
    begun, goes_on = threading.Event(), threading.Event()

    def sample() -> None:
        with turns.of("generators"):
            begun.set()
            assert goes_on.wait(60)
            log.append("sampled")

    def update() -> None:
        with turns.of("learner"):
            log.append("updated")

    threads = [threading.Thread(target=work, daemon=True) for work in (sample, update)]
    threads[0].start()
    assert begun.wait(60)
    threads[1].start()
    with turns.of("generators"):
        log.append("sampled more")
    goes_on.set()
    for thread in threads:
        thread.join(60)
    assert log == ["sampled more", "sampled", "generators leaves", "learner takes", "updated"]


def test_a_stop_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    turns, *_ = two()
    monkeypatch.setattr(stopping, "_asked", threading.Event())
    stopping._asked.set()
    with turns.of("generators"), pytest.raises(InterruptedRunError), turns.of("learner"):
        raise AssertionError("the generators are at work")


def test_a_stream_that_is_dropped_gives_the_turn_back() -> None:
    """A stage that breaks off leaves its samples unread."""
    turns, _, _, log = two()
    plan = SamplingPlan(3, "train", 0, 1, 1.0, 1.0, 8)
    generator = FakeGenerator(Fuse())
    generator.load(BASE, None)
    shards = [Shard(i, ()) for i in range(3)]
    stream = TurnGenerator(generator, turns).sample(shards, plan, BASE)
    assert next(stream).shard.index == 0
    del stream
    with turns.of("learner"):
        log.append("work")
    assert log == ["generators leaves", "learner takes", "work"]
    assert turns.facts(3)["count"] == 1
