"""A round's scored responses, sampled or read from a dataset: shard by shard, each committed as soon as it is whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import numpy as np

from rayalign import stopping
from rayalign.config.run import RunConfig
from rayalign.parts import Generator, Reporter, Scorer
from rayalign.records import (
    SHARD_PROMPTS,
    Adapter,
    Prompt,
    Purpose,
    SampledShard,
    SamplingPlan,
    ScoredSample,
    ScoredShard,
    Shard,
    Shards,
)
from rayalign.store.round_dir import RoundDir

Ids = TypeVar("Ids", Sequence[Prompt], np.ndarray)


def make_shards(ids: Ids, take: Callable[[Ids], Sequence[Prompt]]) -> Shards:
    """Shards of the prompts with these ids, in this order.

    Args:
        take: the prompts of some of the ids (`PromptStore.take`).
    """

    def make(index: int) -> Shard:
        return Shard(index, tuple(take(ids[index * SHARD_PROMPTS : (index + 1) * SHARD_PROMPTS])))

    starts = range(0, len(ids), SHARD_PROMPTS)
    return Shards({i: min(SHARD_PROMPTS, len(ids) - start) for i, start in enumerate(starts)}, make)


def sampling_plan(config: RunConfig, round_index: int, purpose: Purpose) -> SamplingPlan:
    """How the config has a round's answers sampled, for each purpose."""
    section, held_out = config.sampling, config.evaluation
    plan = SamplingPlan(
        round_index=round_index,
        purpose=purpose,
        seed=config.run.seed,
        responses=section.responses,
        temperature=section.temperature,
        top_p=section.top_p,
        max_tokens=section.max_tokens,
    )
    if purpose == "revision":
        return replace(plan, responses=1)
    if purpose == "evaluation":
        return replace(plan, responses=held_out.responses, temperature=held_out.temperature, top_p=1.0)
    if purpose == "greedy":
        return replace(plan, responses=1, temperature=0.0, top_p=1.0)
    return plan


@dataclass(frozen=True, slots=True)
class StageTotals:
    """What one sampling stage did in this process; committed shards of an earlier attempt do not count."""

    seconds: float
    items: int
    tokens: int


Advance = Callable[[int, int], None]
"""Takes how many responses came in, and their tokens."""


class Source(Protocol):
    """Where the scored responses of a round's prompts come from."""

    def count(self, prompt: Prompt) -> int:
        """How many responses a prompt has."""
        ...

    def total(self, shards: Shards) -> int:
        """How many responses all prompts of some shards have."""
        ...

    def scored(self, shards: Iterable[Shard], advance: Advance) -> Iterator[ScoredShard]:
        """Finished shards in the order they finish."""
        ...

    def under_way(self) -> int:
        """Responses that are there, of shards that did not come in yet."""
        ...


@dataclass(frozen=True, slots=True)
class Sampled:
    """`Source`: a generator samples, a scorer scores."""

    plan: SamplingPlan
    adapter: Adapter
    generator: Generator
    scorer: Scorer

    def count(self, prompt: Prompt) -> int:
        return self.plan.responses

    def total(self, shards: Shards) -> int:
        return shards.prompts * self.plan.responses

    def scored(self, shards: Iterable[Shard], advance: Advance) -> Iterator[ScoredShard]:
        return self.scorer.score(_counted(self.generator.sample(shards, self.plan, self.adapter), advance))

    def under_way(self) -> int:
        return self.generator.under_way()


@dataclass(frozen=True, slots=True)
class Given:
    """`Source`: responses that are there already, with their scores."""

    rows_of: Callable[[Prompt], list[ScoredSample]]
    """A prompt's responses, by index."""
    count_of: Callable[[Prompt], int]
    """How many these are."""

    def count(self, prompt: Prompt) -> int:
        return self.count_of(prompt)

    def total(self, shards: Shards) -> int:
        return count_one_by_one(shards, self.count_of)

    def scored(self, shards: Iterable[Shard], advance: Advance) -> Iterator[ScoredShard]:
        for shard in shards:
            rows = [row for prompt in shard.prompts for row in self.rows_of(prompt)]
            advance(len(rows), sum(len(row.sample.token_ids) for row in rows))
            yield ScoredShard(shard, rows)

    def under_way(self) -> int:
        return 0


def commit_shards(
    round_dir: RoundDir,
    shards: Shards,
    source: Source,
    purpose: str,
    reporter: Reporter,
    *,
    stage: str,
    check: Callable[[ScoredShard], None] | None = None,
) -> StageTotals:
    """Commit every shard that is not committed yet.

    Args:
        stage: name of the stage on the console.
        check: called on each scored shard before it is committed; may raise to stop the round.
    """
    missing = shards.only(i for i in shards.indices if not round_dir.has_shard(purpose, i))
    total, todo = source.total(shards), source.total(missing)
    probe = source.under_way if todo else None
    with reporter.stage(stage, round_dir.index, total, done=total - todo, probe=probe) as progress:
        if missing.indices:
            for scored in source.scored(map(missing.make, missing.indices), progress.advance):
                check_aligned(scored, _expected(scored.shard, source))
                if check is not None:
                    check(scored)
                round_dir.commit_shard(purpose, scored.shard.index, scored.rows)
                stopping.check()
    return StageTotals(progress.seconds, progress.items, progress.tokens)


def count_one_by_one(shards: Shards, count: Callable[[Prompt], int]) -> int:
    """`Source.total` where prompts differ."""
    return sum(count(prompt) for index in shards.indices for prompt in shards.make(index).prompts)


def _counted(sampled: Iterator[SampledShard], advance: Advance) -> Iterator[SampledShard]:
    for item in sampled:
        advance(len(item.samples), sum(len(sample.token_ids) for sample in item.samples))
        yield item


def _expected(shard: Shard, source: Source) -> list[tuple[str, int]]:
    return [(prompt.id, index) for prompt in shard.prompts for index in range(source.count(prompt))]


def check_aligned(scored: ScoredShard, expected: Sequence[tuple[str, int]]) -> None:
    """Every (prompt id, index) of the shard once, in order: a misaligned score must never be stored."""
    found = [(row.sample.prompt_id, row.sample.index) for row in scored.rows]
    if found != list(expected):
        raise AssertionError(f"shard {scored.shard.index}: samples {found[:3]}... are not {expected[:3]}...")


def score_shards(
    scorer: Scorer, reporter: Reporter, round_index: int, asked: Sequence[SampledShard], stage: str
) -> list[ScoredShard]:
    """Shards scored for themselves, beside the round's own: every sample of each once and in its order.

    Args:
        stage: name of the stage on the console.
    """
    samples = {one.shard.index: [(sample.prompt_id, sample.index) for sample in one.samples] for one in asked}
    done = []
    with reporter.stage(stage, round_index, sum(map(len, samples.values()))) as progress:
        for scored in scorer.score(asked):
            check_aligned(scored, samples[scored.shard.index])
            progress.advance(len(scored.rows))
            done.append(scored)
    return done


class Unscored:
    """`Scorer` of samples that nobody scores."""

    def score(self, sampled: Iterable[SampledShard]) -> Iterator[ScoredShard]:
        for item in sampled:
            yield ScoredShard(item.shard, [ScoredSample(sample, [], None) for sample in item.samples])


def read_rows(round_dir: RoundDir, purpose: str, shards: Iterable[int]) -> list[ScoredSample]:
    """All committed rows of some shards, in their order."""
    return [row for index in shards for row in round_dir.read_shard(purpose, index) or []]
