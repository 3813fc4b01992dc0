"""A generator replica that joins late holds what the others hold, and proves it, before it gets work."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rayalign.actors import generator as generator_module
from rayalign.actors.generator import RayGenerator
from rayalign.errors import SyncError
from rayalign.loop.adapter_sync import AdapterSync
from rayalign.records import (
    ADAPTER_WEIGHTS,
    Adapter,
    AdapterFiles,
    Expected,
    ReplicaState,
    SamplingPlan,
    SavedAdapter,
    Shard,
    TokenSequence,
)
from rayalign.store.run_dir import RunDir
from tests.fakes import FakeGenerator, FakeLearner, Fuse, make_config, make_prompts

BASE = Adapter.base("b" * 64)
FIRST = Adapter(1, "adapter", "a" * 64, "b" * 64, 0)
FILES = AdapterFiles(1, "a" * 64, {})
CANARIES = [TokenSequence([1], [2, 3])]
EXPECTED = Expected(1, CANARIES, [[-1.0, -2.0]], 0.02)


class Pool:
    """Nobody is in it yet."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def broadcast(self, *_: Any, **__: Any) -> dict[str, ReplicaState]:
        return {}


@pytest.fixture
def generator(monkeypatch: pytest.MonkeyPatch) -> RayGenerator:
    monkeypatch.setattr(generator_module, "Pool", Pool)
    monkeypatch.setattr(generator_module.ray, "put", lambda value: value)
    return RayGenerator(None, make_config(), "logs", cpus=1, say=str)  # pyright: ignore[reportArgumentType]


def replica() -> Any:
    """Each call gives its name and arguments in place of a reference."""
    ask = {name: SimpleNamespace(remote=lambda *given, name=name: (name, *given)) for name in ("hold", "logps")}
    return SimpleNamespace(**ask)


def test_before_a_version_is_served_nothing_is_asked(generator: RayGenerator) -> None:
    assert list(generator._entry(replica())) == []


def test_it_holds_the_served_version_and_its_canaries_are_measured(generator: RayGenerator) -> None:
    generator.load(FIRST, FILES)
    generator.expect(EXPECTED)
    entry = generator._entry(replica())
    assert next(entry) == ("hold", 1, FILES)
    assert entry.send(ReplicaState("generator-1", 1, "a" * 64)) == ("logps", CANARIES, 1)
    with pytest.raises(StopIteration):
        entry.send([[-1.01, -2.01]])


@pytest.mark.parametrize("logps", [[[-1.0, -2.1]], [[float("nan"), -2.0]]])
def test_one_that_serves_something_else_ends_the_run(generator: RayGenerator, logps: list[list[float]]) -> None:
    generator.load(FIRST, FILES)
    generator.expect(EXPECTED)
    entry = generator._entry(replica())
    next(entry)
    entry.send(ReplicaState("generator-1", 1, "a" * 64))
    with pytest.raises(SyncError, match="generator-1 came with adapter 1 and differs"):
        entry.send(logps)


@pytest.mark.parametrize("change", [{"version": 0, "sha256": None}, {"sha256": "c" * 64}])
def test_one_that_holds_something_else_ends_the_run(generator: RayGenerator, change: dict[str, Any]) -> None:
    generator.load(FIRST, FILES)
    entry = generator._entry(replica())
    next(entry)
    with pytest.raises(SyncError, match="generator-1 holds version"):
        entry.send(dataclasses.replace(ReplicaState("generator-1", 1, "a" * 64), **change))


def test_a_version_that_changes_while_it_joins_is_held_too(generator: RayGenerator) -> None:
    generator.load(BASE, None)
    entry = generator._entry(replica())
    assert next(entry) == ("hold", 0, None)
    generator.load(FIRST, FILES)
    assert entry.send(ReplicaState("generator-1", 0, None)) == ("hold", 1, FILES)
    with pytest.raises(StopIteration):
        entry.send(ReplicaState("generator-1", 1, "a" * 64))


def test_what_is_expected_is_what_was_proven_last(tmp_path: Path) -> None:
    """At version 0 from the start; after a proof that fails, still the version before."""
    fuse = Fuse()
    generator, learner = FakeGenerator(fuse), FakeLearner(RunDir(tmp_path), fuse)
    plan = SamplingPlan(0, "train", 0, 1, 1.0, 1.0, 8)
    sync = AdapterSync(generator, learner, Shard(0, tuple(make_prompts(4, "x"))), plan, tolerance=0.02)
    sync.start(SavedAdapter.base("b" * 64))
    assert generator.expected.version == 0 and generator.expected.limit == 0.02
    sha256 = hashlib.sha256(b"w").hexdigest()
    files = AdapterFiles(1, sha256, {ADAPTER_WEIGHTS: b"w"})
    new = SavedAdapter(Adapter(1, "adapter", sha256, "b" * 64, 0), files)
    generator.serves = lambda _: 0
    with pytest.raises(SyncError, match=r"sync\.tolerance"):
        sync.sync(new)
    assert generator.expected.version == 0
    generator.serves = lambda version: version
    sync.sync(new)
    expected = generator.expected
    assert expected.version == 1
    assert generator.logps(expected.sequences, new.record)["generator-0"] == expected.logps
