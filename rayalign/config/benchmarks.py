"""Benchmarks on a round's adapter, a list under `evaluation.benchmarks`, each told apart by its `type`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

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


BenchmarkConfig = Annotated[RatingBenchmark, Field(discriminator="type")]


class BenchmarkFile(Section):
    """What `rayalign eval` reads."""

    benchmark: BenchmarkConfig


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
