"""Benchmarks in the loop with hand-written parts: what is asked, what is committed, what is not asked again."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rayalign.config.run import RunConfig
from rayalign.evaluation.benchmarks.base import Answer, Asked
from rayalign.evaluation.benchmarks.rating import Rating
from rayalign.loop.benchmarks import AskedRunner, Asker, RoundBenchmarks
from rayalign.loop.round import Run
from rayalign.loop.run import run_rounds
from rayalign.loop.sampling import sampling_plan
from rayalign.records import JudgeQuestion, JudgeVerdict, Prompt
from rayalign.store.benchmark_dir import BenchmarkDir, Marks, benchmark_results
from rayalign.store.run_dir import RunDir
from rayalign.store.tables import read_parquet
from tests.fakes import Fuse, Killed, make_config, make_run

SECTION = {"type": "rating", "questions": "q.jsonl", "judge": {
    "type": "judge", "transport": "openai", "base_url": "http://127.0.0.1:1/v1", "model": "m"}}  # fmt: skip
ITEMS = [Asked(f"item {i}", [{"role": "user", "content": f"question {i}"}]) for i in range(70)]


class FakeJudge:
    """Rates by the answer's length and notes what it was asked; `fails` are the ids for which it has no verdict."""

    def __init__(self, fuse: Fuse, version: str = "1") -> None:
        self.fuse, self.version = fuse, version
        self.asked: list[str] = []
        self.fails: set[str] = set()

    def judge(self, questions: Sequence[JudgeQuestion]) -> list[JudgeVerdict]:
        self.fuse.tick()
        self.asked += [question.id for question in questions]
        return [
            JudgeVerdict(one.id, "error", reason="no reply")
            if one.id in self.fails
            else JudgeVerdict(one.id, "ok", rating=float(len(one.answers[0]) % 10 + 1))
            for one in questions
        ]


def tokenize(asked: Sequence[Asked]) -> list[Prompt]:
    return [Prompt(one.id, one.messages, [1, 2, 3]) for one in asked if one.id != "item 69"]


def with_benchmark(run: Run, judge: FakeJudge, every: int = 2) -> Run:
    plan = dataclasses.replace(sampling_plan(run.config, 0, "greedy"), purpose="benchmark")
    asker = Asker(run.parts.generator, run.parts.reporter, tokenize, plan)
    runner = AskedRunner("mine", "rating", every, Rating(ITEMS), asker, judge, 0)
    benchmarks = RoundBenchmarks(run.config, run.run_dir, [runner], run.parts.reporter)
    return dataclasses.replace(run, parts=dataclasses.replace(run.parts, benchmarks=benchmarks))


def benchmark_of(run_dir: RunDir, index: int) -> dict[str, Any] | None:
    report = run_dir.round(index).report()
    assert report is not None
    return report.get("benchmarks", {}).get("mine")


def test_due_rounds_have_it_in_their_report_and_commits(tmp_path: Path) -> None:
    fuse = Fuse()
    run, judge = make_run(tmp_path, fuse=fuse), FakeJudge(fuse)
    judge.fails = {"item 3"}
    run_rounds(with_benchmark(run, judge))
    assert [benchmark_of(run.run_dir, index) is not None for index in range(4)] == [True, False, True, True]
    found = benchmark_of(run.run_dir, 2)
    assert found is not None
    assert found["metrics"]["rating"]["n"] == 68
    assert (found["facts"]["items"], found["facts"]["answered"]) == (70, 69)
    assert (found["facts"]["judge"]["asked"], found["facts"]["judge"]["failed"]) == (69, 1)
    commits = json.loads((run.run_dir.round(2).root / "COMMIT.json").read_text())["commits"]
    files = {name for commit in commits.values() for name in commit["files"] if "benchmarks" in name}
    there = {f"benchmarks/mine/{name}" for name in (run.run_dir.round(2).root / "benchmarks" / "mine").files()}
    assert files == there
    rows = read_parquet(run.run_dir.round(2).root / "benchmarks" / "mine" / "answers" / "0-00000.parquet")
    assert {row["adapter_version"] for row in rows} == {2}
    assert any("1 verdicts failed and are missing, the first: no reply" in text for text in run.parts.reporter.said)


@pytest.mark.parametrize("ticks", range(7, 14))
def test_killed_and_resumed_asks_nothing_twice(tmp_path: Path, ticks: int) -> None:
    """Of three shards of answers and three of verdicts in round 0 each is asked once, whenever the run is killed."""
    whole = make_run(tmp_path / "whole")
    run_rounds(with_benchmark(whole, FakeJudge(Fuse())))
    fuse = Fuse(ticks)
    first, judge = make_run(tmp_path / "killed", fuse=fuse), FakeJudge(fuse)
    with pytest.raises(Killed):
        run_rounds(with_benchmark(first, judge))
    second, again = make_run(tmp_path / "killed"), FakeJudge(Fuse())
    run_rounds(with_benchmark(second, again))
    assert benchmark_of(second.run_dir, 0) == benchmark_of(whole.run_dir, 0)
    asked = [key[2] for run in (first, second) for key in run.parts.generator.asked if key[:2] == ("benchmark", 0)]
    # The shard at whose end the run was killed is asked again, nothing else.
    assert len(asked) - len(set(asked)) <= 32
    assert len(set(asked)) == 69
    assert sorted((judge.asked + again.asked)[:69]) == sorted(one.id for one in ITEMS[:69])


def at(run_dir: RunDir, marks: Marks, *, beside: bool) -> BenchmarkDir:
    return (
        BenchmarkDir.beside(run_dir, 1, "b", marks) if beside else BenchmarkDir.in_round(run_dir.round(1), "b", marks)
    )


@pytest.mark.parametrize("beside", [True, False])
def test_what_another_mark_made_does_not_count(tmp_path: Path, beside: bool) -> None:
    run_dir = RunDir(tmp_path)
    run_dir.open(make_config().to_dict())
    place = at(run_dir, Marks("a", "b"), beside=beside)
    place.commit_samples(0, 0, [])
    place.commit_verdicts(0, [JudgeVerdict("1", "ok", rating=2.0)])
    place.commit_result({"type": "rating", "metrics": {}, "facts": {}}, [{"id": "1"}])
    assert place.samples(0, 0) == []
    assert place.verdicts(0) == [JudgeVerdict("1", "ok", rating=2.0)]
    assert place.result() == {"type": "rating", "metrics": {}, "facts": {}}
    other_judge = at(run_dir, Marks("a", "c"), beside=beside)
    assert (other_judge.samples(0, 0), other_judge.verdicts(0), other_judge.result()) == ([], None, None)
    assert at(run_dir, Marks("c", "b"), beside=beside).samples(0, 0) is None


def test_beside_a_finished_run_what_failed_is_asked_again(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    run_dir.open(make_config().to_dict())
    failed, facts = [JudgeVerdict("1", "error", reason="down")], {"judge": {"failed": 1}}
    for beside in (True, False):
        place = at(run_dir, Marks("a", "b"), beside=beside)
        place.commit_verdicts(0, failed)
        place.commit_result({"metrics": {}, "facts": facts}, [])
        assert (place.verdicts(0), place.result() is None) == ((None, True) if beside else (failed, False))


def test_results_made_afterwards_count_before_those_of_the_rounds(tmp_path: Path) -> None:
    fuse = Fuse()
    run = make_run(tmp_path, fuse=fuse)
    run_rounds(with_benchmark(run, FakeJudge(fuse)))
    late = {"type": "rating", "metrics": {}, "facts": {"late": True}}
    BenchmarkDir.beside(run.run_dir, 2, "mine", Marks("a", "b")).commit_result(late, [])
    BenchmarkDir.beside(run.run_dir, 1, "other", Marks("a", "b")).commit_result(late, [])
    found = benchmark_results(run.run_dir)
    assert {index: sorted(results) for index, results in found.items()} == {
        0: ["mine"], 1: ["other"], 2: ["mine"], 3: ["mine"]}  # fmt: skip
    assert found[2]["mine"] == late


def test_rating_of_answers_by_hand() -> None:
    """Ratings 2 and 4 have the mean 3; one failed and one was not answered, and neither is a number."""
    benchmark = Rating(ITEMS[:4])
    answers = {f"item {i}": [Answer("text", i == 1, 5)] for i in range(3)}
    assert benchmark.ask(1, answers) == []
    questions = benchmark.questions(answers)
    assert [question.answers for question in questions] == [("text",)] * 3
    verdicts = [JudgeVerdict("item 0", "ok", 2.0), JudgeVerdict("item 1", "ok", 4.0), JudgeVerdict("item 2", "error")]
    result = benchmark.result(answers, {one.id: one for one in verdicts}, 0)
    assert (result.metrics["rating"].value, result.metrics["rating"].n) == (3.0, 2)
    assert result.facts["cut"] == 1
    assert [row["rating"] for row in result.rows] == [2.0, 4.0, None, None]
    assert benchmark.result({}, {}, 0).metrics == {}


def test_config_of_benchmarks() -> None:
    config = make_config(evaluation={"benchmarks": [{**SECTION, "prompt_tokens": 700, "max_tokens": 300}]})
    assert config.max_sequence_tokens == 1000
    assert config.judges == []
    held = {"type": "judge", "transport": "vllm", "model": "smollm2"}
    config = make_config(evaluation={"benchmarks": [{**SECTION, "judge": held}, {**SECTION, "name": "b"}]})
    assert [judge.name for judge in config.judges] == ["judge:cut:smollm2"]


@pytest.mark.parametrize(
    ("benchmarks", "complaint"),
    [
        ([SECTION, SECTION], "two benchmarks are called rating"),
        ([{"type": "rating", "questions": "q"}], "no judge that can rate or compare"),
        ([{**SECTION, "judge": "judge:other"}], "judge judge:other is no judge"),
        ([{**SECTION, "judge": {"type": "judge", "transport": "demo"}}], "no judge that can rate or compare"),
    ],
)
def test_config_that_cannot_be(benchmarks: list[dict[str, Any]], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        RunConfig.model_validate({**make_config().to_dict(), "evaluation": {"benchmarks": benchmarks}})
