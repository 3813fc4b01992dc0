"""Benchmarks of a config: their files read and their judges checked before an actor starts, then put together.

section ─► read_benchmarks ─► BenchmarkInputs ─► BenchmarkParts.runner ─► Runner (loop/benchmarks.py)
           files, judge       by value           generator, judge's actors
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rayalign.config.benchmarks import (
    AlpacaEvalBenchmark,
    ArenaBenchmark,
    BenchmarkConfig,
    ComparedBenchmark,
    InstructionsBenchmark,
    JudgedBenchmark,
    LMEvalBenchmark,
    MTBenchmark,
    RatingBenchmark,
    judge_of,
)
from rayalign.config.run import RunConfig
from rayalign.config.scoring import ScorerSettings
from rayalign.config.services import JudgeScoring
from rayalign.data.prompts import PromptRow
from rayalign.data.token_ids import tokenize_prompts
from rayalign.errors import ConfigError
from rayalign.evaluation.benchmarks.alpaca_eval import AlpacaEval
from rayalign.evaluation.benchmarks.arena import Arena
from rayalign.evaluation.benchmarks.base import Asked, Benchmark
from rayalign.evaluation.benchmarks.mt_bench import MTBench
from rayalign.launch.alpaca_eval import AlpacaEvalRunner, check_judge, read_alpaca_eval, read_template
from rayalign.launch.judged_benchmarks import read_arena, read_instructions, read_mt_bench, read_rating
from rayalign.launch.lm_eval import Harness, HarnessRunner, read_lm_eval
from rayalign.launch.models import read_scorers
from rayalign.loop.benchmarks import AskedRunner, Asker, Runner, Tokenize
from rayalign.loop.opponents import AgainstRounds
from rayalign.parts import Generator, Reporter
from rayalign.records import JudgeTask, Prompt, SamplingPlan
from rayalign.rendering.renderer import ChatRenderer
from rayalign.scoring.judges.llm_judge import LLMJudge
from rayalign.scoring.judges.question_judge import Asking, QuestionJudge
from rayalign.scoring.judges.rubrics import rubric_text
from rayalign.scoring.service_scorers import build_service, link_to_judge
from rayalign.scoring.services.transport import Transport
from rayalign.scoring.sources import ScorerSource
from rayalign.store.run_dir import RunDir


@dataclass(frozen=True, slots=True)
class JudgeInputs:
    """A benchmark's judge, found and checked."""

    section: JudgeScoring
    source: ScorerSource


@dataclass(frozen=True, slots=True)
class BenchmarkInputs:
    """One benchmark with its questions."""

    section: BenchmarkConfig
    benchmark: Benchmark | Harness
    judge: JudgeInputs | None
    template: str | None = None
    """The judge's prompt, where it is not one of the judge's own."""


def read_benchmarks(
    config: RunConfig, folder: Path, date: datetime.date, cache: Path | None = None, *, ask_services: bool = True
) -> list[BenchmarkInputs]:
    """All benchmarks of a config; each judge that is a service is asked for a verdict.

    Args:
        folder: where relative paths are looked up after the working directory.
        date: of the run, for a judge's chat template.
        cache: folder for what services answer.

    Raises:
        RayalignError: a file or a judge cannot be used.
    """
    found = []
    for section in config.evaluation.benchmarks:
        benchmark, judge = _read(section, folder), None
        template = read_template(section, folder) if isinstance(section, AlpacaEvalBenchmark) else None
        if isinstance(section, JudgedBenchmark):
            judge = _judge_inputs(section, config, folder, date)
            if ask_services and judge.section.transport == "openai":
                _check(judge, config, template, cache)
        found.append(BenchmarkInputs(section, benchmark, judge, template))
    return found


def _judge_inputs(section: JudgedBenchmark, config: RunConfig, folder: Path, date: datetime.date) -> JudgeInputs:
    try:
        judge = judge_of(section, config.scoring)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    [source] = read_scorers([judge], config, folder, date)
    return JudgeInputs(judge, source)


def _check(judge: JudgeInputs, config: RunConfig, template: str | None, cache: Path | None) -> None:
    """Have the judge say something, before anything is loaded."""
    if template is not None:
        link = link_to_judge(judge.section, judge.source, _settings(config))
        return check_judge(link, template, judge.section.reply_tokens, cache)
    questions = question_judge(judge, config, cache)
    try:
        questions.check("rating")
    finally:
        questions.close()


def _settings(config: RunConfig) -> ScorerSettings:
    return ScorerSettings([], config.combine, config.run.seed)


def question_judge(
    judge: JudgeInputs, config: RunConfig, cache: Path | None, transport: Transport | None = None
) -> QuestionJudge:
    """
    Args:
        transport: to the judge's actors, where the run holds it.
    """
    settings = _settings(config)
    source = dataclasses.replace(judge.source, transport=transport)

    def make(asking: Asking) -> LLMJudge:
        task, template = None, asking
        if isinstance(asking, JudgeTask):
            rubric = asking.rubric or rubric_text(judge.section, source.rubric)
            task, template = dataclasses.replace(asking, rubric=rubric), asking.kind
        section = judge.section.model_copy(update={"template": template, "weight": 1.0})
        made = build_service(section, source, settings, cache, task)
        assert isinstance(made, LLMJudge)
        return made

    return QuestionJudge(make)


@dataclass(frozen=True, slots=True)
class BenchmarkParts:
    """What benchmarks run with."""

    config: RunConfig
    run_dir: RunDir
    model: Path
    """Folder of the base."""
    generator: Generator
    reporter: Reporter
    renderer: ChatRenderer
    cache: Path | None
    transports: Mapping[str, Callable[[], Transport]]
    """To the judges that the run holds, by name."""
    started: ExitStack
    """Closes what is made."""

    def runner(self, inputs: BenchmarkInputs) -> Runner:
        section, benchmark, judge = inputs.section, inputs.benchmark, None
        if isinstance(benchmark, Harness):
            return HarnessRunner(section.label, section.every, benchmark, self.model, self.reporter)
        asker = self._asker(section)
        if isinstance(benchmark, AlpacaEval):
            return self._alpaca_eval(inputs, benchmark, asker)
        if inputs.judge is not None:
            judge = question_judge(inputs.judge, self.config, self.cache, self._held(inputs.judge))
            self.started.callback(judge.close)
        asked = AskedRunner(section.label, section.type, section.every, benchmark, asker, judge, self.config.run.seed)
        if isinstance(section, ComparedBenchmark) and isinstance(benchmark, Arena | MTBench):
            return AgainstRounds(asked, benchmark, section.rounds, self.run_dir)
        return asked

    def _alpaca_eval(self, inputs: BenchmarkInputs, benchmark: AlpacaEval, asker: Asker) -> Runner:
        section, judge, config = inputs.section, inputs.judge, self.config
        assert judge is not None and inputs.template is not None
        source = dataclasses.replace(judge.source, transport=self._held(judge))
        return AlpacaEvalRunner(
            section.label,
            section.every,
            benchmark,
            asker,
            partial(link_to_judge, judge.section, source, _settings(config)),
            inputs.template,
            reply_tokens=judge.section.reply_tokens,
            concurrency=judge.section.limits.concurrency,
            cache=self.cache,
            model=config.run.name,
            seed=config.run.seed,
        )

    def _held(self, judge: JudgeInputs) -> Transport | None:
        """The way to a judge that the run holds."""
        make = self.transports.get(judge.section.name)
        return None if make is None else make()

    def _asker(self, section: BenchmarkConfig) -> Asker:
        plan = SamplingPlan(
            round_index=0,
            purpose="benchmark",
            seed=self.config.run.seed,
            responses=1,
            temperature=section.temperature,
            top_p=1.0,
            max_tokens=section.max_tokens or self.config.sampling.max_tokens,
        )
        longest = section.prompt_tokens or self.config.prompts.max_tokens
        return Asker(self.generator, self.reporter, fitting(self.renderer, longest, section.label, self.reporter), plan)


def fitting(renderer: ChatRenderer, max_tokens: int, name: str, reporter: Reporter) -> Tokenize:
    """Makes prompts of conversations; says how many are too long."""

    def tokenize(asked: Sequence[Asked]) -> list[Prompt]:
        rows = [PromptRow(one.id, one.messages) for one in asked]
        prompts, too_long = tokenize_prompts(rows, renderer, max_tokens)
        if too_long:
            longest = max(tokens for _, tokens in too_long)
            reporter.say(
                f"{name}: {len(too_long)} of {len(asked)} questions left out, longer than {max_tokens} tokens (the "
                f"longest has {longest}; prompt_tokens takes more)"
            )
        return prompts

    return tokenize


def _read(section: BenchmarkConfig, folder: Path) -> Benchmark | Harness:
    """A benchmark with what its files hold."""
    match section:
        case AlpacaEvalBenchmark():
            return read_alpaca_eval(section, folder)
        case RatingBenchmark():
            return read_rating(section, folder)
        case MTBenchmark():
            return read_mt_bench(section, folder)
        case ArenaBenchmark():
            return read_arena(section, folder)
        case InstructionsBenchmark():
            return read_instructions(section, folder)
        case LMEvalBenchmark():
            return read_lm_eval(section, folder)
