"""Benchmarks on a round's adapter, a list under `evaluation.benchmarks`, each told apart by its `type`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rayalign.config.base import Section
from rayalign.config.scoring import Scoring
from rayalign.config.services import JudgeScoring, RubricFile


class BenchmarkSection(Section):
    """What all benchmarks share."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] | None = None
    """Of its folder and in the report; null is its type."""
    every: Annotated[int, Field(ge=1)] = 1
    """Run after every so many rounds; after round 0 and the last one always."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Take only so many of its questions, the first ones; null takes all."""
    prompt_tokens: Annotated[int, Field(ge=1)] | None = None
    """Longest conversation that is asked; longer ones are counted and left out. Null: `prompts.max_tokens`."""
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """Longest answer; null: `sampling.max_tokens`."""
    temperature: Annotated[float, Field(ge=0, le=10)] = 0.0
    """0 takes the likeliest token."""

    @property
    def label(self) -> str:
        return self.name or str(getattr(self, "type", ""))


class JudgedBenchmark(BenchmarkSection):
    """What benchmarks with a judge share."""

    judge: Annotated[str, Field(min_length=1)] | JudgeScoring | None = None
    """A judge written as under `scoring`, whose template the benchmark sets; or the name of one that stands there;
    null: the first that stands there."""


class RatingBenchmark(JudgedBenchmark):
    """The judge rates answers to the questions of a file from 1 to 10, by a rubric if there is one."""

    type: Literal["rating"]
    questions: Annotated[str, Field(min_length=1)]
    """A file of prompts, in any format that `prompts.source` takes."""
    rubric: Annotated[str, Field(min_length=1)] | RubricFile | None = None
    """What to judge by, in words or in a file; null: the judge's own."""
    scale: Annotated[list[Annotated[int, Field(ge=0, le=999)]], Field(min_length=2, max_length=2)] | None = None
    """Lowest and highest rating; null: the first scale that the rubric names, as in "1 to 5", else 1 and 10."""

    @model_validator(mode="after")
    def _scale_rises(self) -> Self:
        if self.scale is not None and self.scale[0] >= self.scale[1]:
            raise ValueError(f"scale goes from {self.scale[0]} to {self.scale[1]}: write the lowest rating first")
        return self


ALPACA_EVAL_SETS = {"gpt4_1106": "alpaca_eval_gpt4_baseline.json", "davinci003": "alpaca_eval.json"}
"""Reference answers on the hub, in the data set `tatsu-lab/alpaca_eval`: of AlpacaEval 2 and 1."""


class AlpacaEvalBenchmark(JudgedBenchmark):
    """AlpacaEval by its own package: how often the judge prefers the answers to reference answers."""

    type: Literal["alpaca_eval"]
    reference: Annotated[str, Field(min_length=1)] = "gpt4_1106"
    """JSON file in AlpacaEval's form with the instructions and the answers to compare with; or a set of the hub."""
    template: Annotated[str, Field(min_length=1)] | None = None
    """File with the judge's prompt in the package's own form; null: the one that comes with rayalign."""


Baseline = Annotated[int, Field(ge=0)] | Annotated[str, Field(min_length=1)]
"""A round of the run, `previous` for the last one before that has answers, or a file of answers."""
PREVIOUS = "previous"


class ComparedBenchmark(JudgedBenchmark):
    """What benchmarks share in which the judge compares with others' answers, in both orders."""

    questions: Annotated[str, Field(min_length=1)]
    baselines: list[Baseline] = Field(default=[])
    """Whose answers to compare with: rounds of the run by number, `previous`, or files."""

    @property
    def files(self) -> list[str]:
        """The baselines that are files."""
        return [one for one in self.baselines if isinstance(one, str) and one != PREVIOUS]

    @property
    def rounds(self) -> list[int | str]:
        """The others."""
        return [one for one in self.baselines if isinstance(one, int) or one == PREVIOUS]

    @model_validator(mode="after")
    def _told_apart(self) -> Self:
        names = [baseline_name(one) for one in self.baselines]
        if twins := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two baselines are called {twins[0]}, which would mix their results; rename a file")
        return self


class MTBenchmark(ComparedBenchmark):
    """MT-Bench: two turns, each answer graded from 1 to 10, and compared with baselines'."""

    type: Literal["mt_bench"]


class ArenaBenchmark(ComparedBenchmark):
    """Answers compared with those of baselines, with Bradley-Terry strengths."""

    type: Literal["arena"]
    rubric: Annotated[str, Field(min_length=1)] | RubricFile | None = None
    """What to judge by beside the usual, in words or in a file."""

    @model_validator(mode="after")
    def _has_opponents(self) -> Self:
        if not self.baselines:
            raise ValueError("type: arena needs baselines: name rounds, previous, or files of answers")
        return self


class InstructionsBenchmark(BenchmarkSection):
    """Instructions that code can check, in the manner of IFEval."""

    type: Literal["instructions"]
    questions: Annotated[str, Field(min_length=1)]
    """A file of prompts with constraints, as the scorer `constraints` reads them."""
    field: Annotated[str, Field(min_length=1)] = "constraints"
    """Field of the prompts' metadata that holds them."""


_NOT_HARNESS = ("prompt_tokens", "max_tokens", "temperature")


class LMEvalBenchmark(BenchmarkSection):
    """Tasks of lm-evaluation-harness, by its own package on base and adapter in a process of their own."""

    type: Literal["lm_eval"]
    tasks: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]
    """Names of its tasks, groups or tags, or of those in `folder`. Tasks of its own come from the hub."""
    folder: Annotated[str, Field(min_length=1)] | None = None
    """Folder of task files of the user's own; relative data files in them lie there too."""
    shots: Annotated[int, Field(ge=0)] | None = None
    """Examples before each question; null: as the task says."""
    batch_size: Annotated[int, Field(ge=1)] = 8
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto`: a GPU where this machine has one."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """`auto`: the data type of the model's files."""
    chat_template: bool = False
    """Put questions into the tokenizer's own chat template."""

    @model_validator(mode="after")
    def _none_of_ours(self) -> Self:
        for name in _NOT_HARNESS:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"type: lm_eval takes no {name}: its tasks say how they are answered; remove it")
        return self


BenchmarkConfig = Annotated[
    AlpacaEvalBenchmark | RatingBenchmark | MTBenchmark | ArenaBenchmark | InstructionsBenchmark | LMEvalBenchmark,
    Field(discriminator="type"),
]


class BenchmarkFile(Section):
    """What `rayalign eval` reads."""

    benchmark: BenchmarkConfig


def baseline_name(baseline: int | str) -> str:
    """What a baseline is called in metrics.

    >>> baseline_name(0), baseline_name("previous"), baseline_name("answers/gpt 4.json")
    ('round_0', 'previous', 'gpt_4')
    """
    if isinstance(baseline, int):
        return f"round_{baseline}"
    return re.sub(r"[^A-Za-z0-9._-]", "_", PurePath(baseline).stem)


def judge_of(section: JudgedBenchmark, scoring: Sequence[Scoring]) -> JudgeScoring:
    """The judge of a benchmark.

    Raises:
        ValueError: there is none that can rate and compare.
    """
    if isinstance(section.judge, JudgeScoring):
        found = [section.judge]
    else:
        named = [one for one in scoring if isinstance(one, JudgeScoring) and section.judge in (None, one.name)]
        found = [one for one in named if one.transport != "demo"]
    if found and found[0].transport != "demo":
        return found[0]
    what = f"judge {section.judge} is" if isinstance(section.judge, str) else "there is"
    raise ValueError(
        f"benchmark {section.label}: {what} no judge that can rate or compare: write one there, as in judge: {{type: "
        "judge, transport: openai, base_url: http://127.0.0.1:8000/v1, model: NAME}, or name one of scoring"
    )


def held_judges(sections: Sequence[BenchmarkSection], scoring: Sequence[Scoring]) -> list[JudgeScoring]:
    """The judges that the run holds in actors for its benchmarks alone, each once."""
    others = {one.name for one in scoring}
    judges = [judge_of(one, scoring) for one in sections if isinstance(one, JudgedBenchmark)]
    held = {one.name: one for one in judges if one.transport == "vllm" and one.name not in others}
    return list(held.values())
