"""A round's answers against those of the run's other rounds, in the loop with hand-written parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rayalign.evaluation.benchmarks.arena import Arena
from rayalign.evaluation.benchmarks.mt_bench import MTBench
from rayalign.evaluation.benchmarks.questions import Question
from rayalign.loop.benchmarks import AskedRunner, Asker, RoundBenchmarks
from rayalign.loop.opponents import AgainstRounds
from rayalign.loop.round import Run
from rayalign.loop.run import run_rounds
from rayalign.loop.sampling import sampling_plan
from rayalign.records import JudgeQuestion, JudgeVerdict
from rayalign.store.benchmark_dir import BenchmarkDir, Marks, benchmark_rows
from tests.fakes import Fuse, make_run
from tests.unit.test_benchmarks import tokenize

QUESTIONS = [Question(f"item {i}", (f"question {i}",)) for i in range(40)]
FILE = {"file": {question.id: ("zz",) for question in QUESTIONS[:10]}}


class Alphabetical:
    """A judge that prefers what comes later in the alphabet, whatever the order; notes what it is asked."""

    def __init__(self, version: str = "1") -> None:
        self.version = version
        self.asked: list[str] = []

    def judge(self, questions: Sequence[JudgeQuestion]) -> list[JudgeVerdict]:
        self.asked += [question.id for question in questions]
        return [self._one(question) for question in questions]

    def _one(self, question: JudgeQuestion) -> JudgeVerdict:
        if not question.compares:
            return JudgeVerdict(question.id, "ok", rating=5.0)
        first, second = (text for name, text in question.shown if "assistant" in name)
        return JudgeVerdict(question.id, "ok", choice="first" if first > second else "second")


def with_opponents(run: Run, bench: Arena | MTBench, judge: Alphabetical, rounds: Sequence[int | str]) -> Run:
    plan = dataclasses.replace(sampling_plan(run.config, 0, "greedy"), purpose="benchmark")
    asker = Asker(run.parts.generator, run.parts.reporter, tokenize, plan)
    asked = AskedRunner("mine", "arena", 1, bench, asker, judge, 0)
    against = AgainstRounds(asked, bench, rounds, run.run_dir)
    benchmarks = RoundBenchmarks(run.config, run.run_dir, [against], run.parts.reporter)
    return dataclasses.replace(run, parts=dataclasses.replace(run.parts, benchmarks=benchmarks))


def found_in(run: Run, index: int) -> dict[str, Any]:
    report = run.run_dir.round(index).report()
    assert report is not None
    return report["benchmarks"]["mine"]


def test_each_round_meets_the_rounds_before_it_and_the_files(tmp_path: Path) -> None:
    run, judge = make_run(tmp_path, fuse=Fuse()), Alphabetical()
    run_rounds(with_opponents(run, Arena(QUESTIONS, FILE), judge, [0, "previous"]))
    names = [set(found_in(run, index)["facts"]["opponents"]) for index in range(4)]
    assert names == [{"file"}, {"file", "round_0"}, {"file", "round_0", "previous"}, {"file", "round_0", "previous"}]
    metrics = found_in(run, 3)["metrics"]
    assert {name for name in metrics if name.startswith("strength")} == {
        "strength", "strength/file", "strength/round_0", "strength/round_1", "strength/round_2",
    }  # fmt: skip
    assert metrics["win_rate/file"]["value"] == 0.0 and metrics["win_rate/file"]["n"] == 10
    assert metrics["strength/file"]["value"] == max(
        one["value"] for name, one in metrics.items() if name.startswith("strength")
    )
    assert metrics["win_rate/round_0"]["n"] == 40
    rows = benchmark_rows(run.run_dir, 3, "mine")
    assert rows is not None and {one["opponent"] for one in rows[0]["against"]} == {"file", "round_0", "round_2"}


def test_another_baseline_asks_the_judge_again_and_not_the_model(tmp_path: Path) -> None:
    run = make_run(tmp_path, fuse=Fuse())
    bench, other = Arena(QUESTIONS, FILE), Arena(QUESTIONS, {"other": FILE["file"]})
    run_rounds(with_opponents(run, bench, Alphabetical(), []))
    served = run.run_dir.round(1).adapter()
    assert served is not None
    marks = [_against(run, one, rounds).marks(1, served) for one, rounds in ((bench, []), (other, []), (bench, [0]))]
    assert len({one.answers for one in marks}) == 1 and len({one.all for one in marks}) == 3


def _against(run: Run, bench: Arena, rounds: Sequence[int | str]) -> AgainstRounds:
    made = with_opponents(run, bench, Alphabetical(), rounds).parts.benchmarks
    assert isinstance(made, RoundBenchmarks)
    [runner] = made._runners
    assert isinstance(runner, AgainstRounds)
    return runner


def test_a_round_without_answers_is_said_and_left_out(tmp_path: Path) -> None:
    run, judge = make_run(tmp_path, fuse=Fuse()), Alphabetical()
    run_rounds(with_opponents(run, MTBench(QUESTIONS[:3]), judge, [2]))
    assert "opponents" in found_in(run, 1)["facts"] and found_in(run, 1)["facts"]["opponents"] == {}
    assert set(found_in(run, 3)["facts"]["opponents"]) == {"round_2"}
    assert any("round_2 has no answers to compare with those of round 1" in text for text in run.parts.reporter.said)
    assert [found_in(run, index)["metrics"]["score"]["value"] for index in range(4)] == [5.0] * 4


def test_rows_made_afterwards_count_first(tmp_path: Path) -> None:
    run = make_run(tmp_path, fuse=Fuse())
    marks = Marks("a", "b")
    assert benchmark_rows(run.run_dir, 0, "mine") is None
    BenchmarkDir.in_round(run.run_dir.round(0), "mine", marks).commit_result({"facts": {}}, [{"id": "1"}])
    assert benchmark_rows(run.run_dir, 0, "mine") == [{"id": "1"}]
    BenchmarkDir.beside(run.run_dir, 0, "mine", marks).commit_result({"facts": {}}, [{"id": "2 \u2028"}])
    assert benchmark_rows(run.run_dir, 0, "mine") == [{"id": "2 \u2028"}]
