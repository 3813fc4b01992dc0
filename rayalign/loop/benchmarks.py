"""Benchmarks on what is served: the generator's answers, the judge's verdicts, both committed as they come.

    ask ─► prompts ─► generator ─► answers, shard by shard ─► questions ─► judge ─► verdicts ─► result

What is committed under the same mark is not asked again: a killed run, or the same command once more, goes on.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from rayalign import stopping
from rayalign.config.run import RunConfig
from rayalign.evaluation.benchmarks.base import Answer, Answers, Asked, Benchmark, Result
from rayalign.loop.sampling import make_shards
from rayalign.parts import Generator, Judge, Reporter
from rayalign.records import (
    SHARD_PROMPTS,
    JsonObject,
    JudgeQuestion,
    JudgeVerdict,
    Prompt,
    Sample,
    SamplingPlan,
    SavedAdapter,
)
from rayalign.store.benchmark_dir import BenchmarkDir, Marks
from rayalign.store.run_dir import RunDir

Tokenize = Callable[[Sequence[Asked]], list[Prompt]]
"""The conversations that are short enough to be asked, as prompts under their items' ids."""


class Runner(Protocol):
    """One benchmark of a config, with all that it takes to run it on what is served."""

    @property
    def name(self) -> str: ...

    @property
    def type(self) -> str: ...

    @property
    def every(self) -> int: ...

    def marks(self, round_index: int, served: SavedAdapter) -> Marks:
        """What its answers and its result hang on."""
        ...

    def run(self, place: BenchmarkDir, served: SavedAdapter) -> Result:
        """Measure what is served; what `place` has committed already counts."""
        ...


@dataclass(frozen=True, slots=True)
class Asker:
    """Has the model answer a benchmark's conversations.

    Args:
        plan: how they are answered; the round is set for each.
    """

    generator: Generator
    reporter: Reporter
    tokenize: Tokenize
    plan: SamplingPlan

    def identity(self, benchmark: Benchmark, round_index: int, served: SavedAdapter) -> str:
        """Hash of what is asked, how, and who answers."""
        plan = dataclasses.asdict(self._plan(round_index))
        adapter = [served.record.base_model_sha256, served.record.sha256]
        return digest([benchmark.version, plan, adapter])

    def answers(self, benchmark: Benchmark, place: BenchmarkDir, served: SavedAdapter) -> Answers:
        """All turns of all items, as far as they could be asked."""
        found: dict[str, list[Answer]] = {}
        turn = 0
        while asked := benchmark.ask(turn, found):
            for sample in self._turn(turn, self.tokenize(asked), place, served):
                answer = Answer(sample.text, sample.finish_reason == "length", len(sample.token_ids))
                found.setdefault(sample.prompt_id, []).append(answer)
            turn += 1
        return found

    def _turn(self, turn: int, prompts: list[Prompt], place: BenchmarkDir, served: SavedAdapter) -> list[Sample]:
        """One answer to every prompt, in their order."""
        shards = make_shards(prompts, list)
        done = {i: samples for i in shards.indices if (samples := place.samples(turn, i)) is not None}
        missing = shards.only(i for i in shards.indices if i not in done)
        index, known = place.round_dir.index, shards.prompts - missing.prompts
        probe = self.generator.under_way if missing.indices else None
        with self.reporter.stage(f"{place.name} answers", index, shards.prompts, done=known, probe=probe) as progress:
            if missing.indices:
                asked = map(missing.make, missing.indices)
                for sampled in self.generator.sample(asked, self._plan(index), served.record):
                    _check_aligned(sampled.shard.prompts, sampled.samples)
                    place.commit_samples(turn, sampled.shard.index, sampled.samples)
                    done[sampled.shard.index] = sampled.samples
                    progress.advance(len(sampled.samples), sum(len(one.token_ids) for one in sampled.samples))
                    stopping.check()
        return [sample for i in shards.indices for sample in done[i]]

    def _plan(self, round_index: int) -> SamplingPlan:
        return dataclasses.replace(self.plan, round_index=round_index)


@dataclass(frozen=True, slots=True)
class AskedRunner:
    """`Runner` of a benchmark that consists of questions to the model, and perhaps to the judge."""

    name: str
    type: str
    every: int
    benchmark: Benchmark
    asker: Asker
    judge: Judge | None
    seed: int

    def marks(self, round_index: int, served: SavedAdapter) -> Marks:
        answers = self.asker.identity(self.benchmark, round_index, served)
        return Marks(answers, digest([answers, self.judge and self.judge.version, self.seed]))

    def run(self, place: BenchmarkDir, served: SavedAdapter) -> Result:
        answers = self.asker.answers(self.benchmark, place, served)
        questions = self.benchmark.questions(answers)
        verdicts = self._verdicts(questions, place) if questions else []
        return self.benchmark.result(answers, {one.id: one for one in verdicts}, self.seed)

    def _verdicts(self, questions: Sequence[JudgeQuestion], place: BenchmarkDir) -> list[JudgeVerdict]:
        assert self.judge is not None, f"{self.name} asks a judge and has none"
        parts = [questions[i : i + SHARD_PROMPTS] for i in range(0, len(questions), SHARD_PROMPTS)]
        known = [place.verdicts(number) for number in range(len(parts))]
        done, verdicts = sum(len(part or []) for part in known), list[JudgeVerdict]()
        stage = self.asker.reporter.stage(f"{place.name} verdicts", place.round_dir.index, len(questions), done=done)
        with stage as progress:
            for number, (part, committed) in enumerate(zip(parts, known, strict=True)):
                given = committed
                if given is None:
                    given = self.judge.judge(part)
                    place.commit_verdicts(number, given)
                    progress.advance(len(given))
                    stopping.check()
                verdicts += given
        return verdicts


class RoundBenchmarks:
    """`Benchmarks` of a run: those that are due after a round, one after the other."""

    def __init__(self, config: RunConfig, run_dir: RunDir, runners: Sequence[Runner], reporter: Reporter) -> None:
        self._rounds, self._run_dir, self._runners, self._reporter = config.run.rounds, run_dir, runners, reporter

    def run(self, round_index: int, served: SavedAdapter) -> JsonObject:
        due = [one for one in self._runners if round_index % one.every == 0 or round_index == self._rounds]
        found: JsonObject = {}
        for runner in due:
            marks = runner.marks(round_index, served)
            place = BenchmarkDir.in_round(self._run_dir.round(round_index), runner.name, marks)
            found[runner.name] = run_at(place, runner, served, self._reporter)
        return found


def run_at(place: BenchmarkDir, runner: Runner, served: SavedAdapter, reporter: Reporter) -> JsonObject:
    """What a benchmark measures on what is served: its type, metrics and facts; as committed where they are."""
    if (done := place.result()) is not None:
        return done
    result = runner.run(place, served)
    metrics = {name: metric.to_dict() for name, metric in result.metrics.items()}
    content = {"type": runner.type, "metrics": metrics, "facts": result.facts}
    place.commit_result(content, result.rows, result.files)
    failed = result.facts.get("judge", {}).get("failed", 0)
    if failed:
        reporter.say(f"{place.name}: {failed} verdicts failed and are missing, the first: {_first_failure(result)}")
    return content


def _first_failure(result: Result) -> str:
    return str(result.facts["judge"].get("first_failure"))


def _check_aligned(prompts: Sequence[Prompt], samples: Sequence[Sample]) -> None:
    """Every prompt's answer once, in order: a misaligned answer must never be stored."""
    found, expected = [sample.prompt_id for sample in samples], [prompt.id for prompt in prompts]
    if found != expected:
        raise AssertionError(f"answers to {found[:3]}... are not those to {expected[:3]}...")


def digest(value: object) -> str:
    """Hash of JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]
