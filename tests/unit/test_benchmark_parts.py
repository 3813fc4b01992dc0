"""Judged benchmarks from their sections to their results, with a real tokenizer and judge client; the model is fake."""

from __future__ import annotations

import datetime
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from rayalign.config.run import RunConfig
from rayalign.launch.benchmarks import BenchmarkParts, read_benchmarks
from rayalign.learning.folders import load_tokenizer
from rayalign.loop.benchmarks import RoundBenchmarks
from rayalign.records import Adapter, SavedAdapter
from rayalign.rendering.renderer import ChatRenderer
from rayalign.store.run_dir import RunDir
from tests.fakes import FakeGenerator, FakeReporter, Fuse, make_config
from tests.http_server import Server
from tests.judged_files import judge, sections
from tests.tiny_run import make_base

DATE = datetime.date(2026, 1, 1)


def measured(config: RunConfig, folder: Path, base: Path, rounds: int) -> tuple[list[dict[str, Any]], FakeGenerator]:
    """What the benchmarks of a config find on some rounds, one after the other."""
    run_dir, generator = RunDir(folder / "run"), FakeGenerator(Fuse())
    run_dir.open(config.to_dict())
    renderer = ChatRenderer(load_tokenizer(base), "auto", DATE)
    inputs = read_benchmarks(config, folder, DATE, folder / "cache")
    with ExitStack() as started:
        parts = BenchmarkParts(
            config, run_dir, base, generator, FakeReporter(), renderer, folder / "cache", {}, started
        )
        benchmarks = RoundBenchmarks(config, run_dir, [parts.runner(one) for one in inputs], FakeReporter())
        found = []
        for index in range(rounds):
            generator.held = index
            served = SavedAdapter.base("b") if index == 0 else SavedAdapter(Adapter(index, "p", "s", "b", 0), None)
            found.append(benchmarks.run(index, served))
    return found, generator


def test_from_the_config_to_the_results(tmp_path: Path) -> None:
    """The judge has no verdict on the question with `five`; a cache answers for what was asked before."""
    base = make_base(tmp_path / "base", context=512)
    with Server(judge) as server:
        config = make_config(evaluation={"benchmarks": sections(tmp_path, server.url)})
        (first, second), generator = measured(config, tmp_path, base, 2)
        asked = len(server.requests)
        assert measured(config, tmp_path, base, 2)[0] == [first, second]
        # What is committed is not asked again; the check's canned question is in the cache.
        assert len(server.requests) == asked
    assert {purpose for purpose, _, _ in generator.asked} == {"benchmark"}
    # MT-Bench twice 4, arena, rating and instructions 4 each.
    assert sum(index == 1 for _, index, _ in generator.asked) == 20
    assert "win_rate/round_0" not in first["mt_bench"]["metrics"]
    bench, arena, rating, kept = (second[name] for name in ("mt_bench", "arena", "rating", "instructions"))
    assert (bench["facts"]["answers"], bench["metrics"]["score"]["n"]) == (8, 6)
    assert {"score/turn_1", "score/turn_2", "score/math", "score/writing", "win_rate/round_0"} <= set(bench["metrics"])
    assert arena["facts"]["opponents"]["short"] == {
        "comparisons": 4, "won": 3, "tied": 0, "lost": 0, "without_outcome": 1, "same_text": 0,
    }  # fmt: skip
    assert arena["metrics"]["strength"]["value"] > arena["metrics"]["strength/short"]["value"]
    assert "win_rate/previous" in arena["metrics"] and "strength/round_0" in arena["metrics"]
    assert (rating["facts"]["scale"], rating["metrics"]["rating"]["n"]) == ([1, 4], 3)
    assert kept["metrics"]["instruction_strict/words"]["n"] == 4
    text = (tmp_path / "run" / "rounds" / "0001" / "benchmarks" / "mt_bench" / "rows.jsonl").read_text()
    assert [len(json.loads(line)["answers"]) for line in text.splitlines()] == [2, 2, 2, 2]


@pytest.mark.parametrize("kind", ["mt_bench", "arena", "rating"])
def test_a_free_text_judge_writes_its_verdict_behind_the_nonce(tmp_path: Path, kind: str) -> None:
    base = make_base(tmp_path / "base", context=512)
    with Server(judge) as server:
        [section] = [one for one in sections(tmp_path, server.url) if one["type"] == kind]
        section["judge"]["structured"] = False
        [found], _ = measured(make_config(evaluation={"benchmarks": [section]}), tmp_path, base, 1)
        said = found[kind]["facts"]["judge"]
    assert 0 < said["failed"] < said["asked"]
    assert found[kind]["metrics"]
