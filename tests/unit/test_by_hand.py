"""Benchmarks on a finished run's adapters, with hand-written actors: what is served is proven before it is asked."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rayalign.actors.cluster import Cluster
from rayalign.errors import SyncError
from rayalign.launch import by_hand
from rayalign.launch.benchmarks import read_benchmarks
from rayalign.launch.wiring import Actors
from rayalign.loop.sampling import Unscored
from rayalign.records import ADAPTER_WEIGHTS, Adapter, AdapterFiles, SavedAdapter
from rayalign.store.run_dir import RunDir
from rayalign.store.tables import read_parquet
from rayalign.tracking.console import Console
from tests.fakes import FakeGenerator, FakeLearner, Fuse, make_config
from tests.http_server import Server, completion
from tests.tiny_run import make_base

WEIGHTS = b"weights of round 1"
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
ONE = SavedAdapter(
    Adapter(1, "rounds/0001/adapter", SHA256, "b" * 64, 0), AdapterFiles(1, SHA256, {ADAPTER_WEIGHTS: WEIGHTS})
)
BASE = SavedAdapter.base("b" * 64)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def judge() -> Iterator[Server]:
    with Server(lambda request: completion('{"reasons": "r", "rating": 7}')) as server:
        yield server


@pytest.fixture
def generator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeGenerator:
    """In the place of a run's actors; the learner beside it is as honest as it."""
    fuse = Fuse()
    made = FakeGenerator(fuse)
    actors = Actors(made, Unscored(), FakeLearner(RunDir(tmp_path / "run"), fuse), [], None, {})
    monkeypatch.setattr(by_hand, "connected", lambda: contextlib.nullcontext(Cluster((), shared=False)))
    monkeypatch.setattr(by_hand, "place", lambda *_: None)
    monkeypatch.setattr(by_hand, "start_actors", lambda *_, scores: actors)
    return made


def measure(folder: Path, base: Path, judge: Server, adapters: dict[int, SavedAdapter]) -> list[by_hand.Measured]:
    (folder / "q.jsonl").write_text("".join(json.dumps({"prompt": f"w{i} w2"}) + "\n" for i in range(40)))
    section: Any = {"type": "rating", "questions": "q.jsonl", "judge": {
        "type": "judge", "transport": "openai", "base_url": f"{judge.url}/v1", "model": "judge"}}  # fmt: skip
    config = make_config(evaluation={"benchmarks": [section]})
    run_dir = RunDir(folder / "run")
    run_dir.open(config.to_dict())
    inputs = read_benchmarks(config, folder, run_dir.date)
    return by_hand.measure(config, run_dir, base, adapters, inputs, Console(io.StringIO()), folder)


def test_each_round_is_served_with_proof_and_then_asked(
    tmp_path: Path, base: Path, judge: Server, generator: FakeGenerator
) -> None:
    measured = measure(tmp_path, base, judge, {1: ONE, 0: BASE})
    assert generator.loads == [0, 1]
    assert [(one.round_index, one.content["metrics"]["rating"]["value"]) for one in measured] == [(0, 7.0), (1, 7.0)]
    for one in measured:
        rows = read_parquet(one.folder / "answers" / "0-00001.parquet")
        assert {row["adapter_version"] for row in rows} == {one.round_index}
        assert one.folder.name == f"round-{one.round_index:04d}"
    assert not (tmp_path / "run" / "rounds").exists()


def test_the_same_once_more_asks_nothing(tmp_path: Path, base: Path, judge: Server, generator: FakeGenerator) -> None:
    first = measure(tmp_path, base, judge, {1: ONE})
    asked, requests = len(generator.asked), len(judge.requests)
    assert measure(tmp_path, base, judge, {1: ONE}) == first
    canaries, check = len(by_hand.CANARIES), 1
    assert len(generator.asked) == asked + canaries
    assert len(judge.requests) == requests + check


def test_a_replica_that_serves_the_base_is_never_asked(
    tmp_path: Path, base: Path, judge: Server, generator: FakeGenerator
) -> None:
    generator.serves = lambda version: 0
    with pytest.raises(SyncError, match="generator and learner differ"):
        measure(tmp_path, base, judge, {1: ONE})
    assert {purpose for purpose, _, _ in generator.asked} == {"train"}
    assert not (tmp_path / "run" / "benchmarks").exists()
