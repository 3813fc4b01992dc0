"""A round's scored responses, sampled or read from a dataset: shard by shard, each committed as soon as it is whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from rayalign.records import Adapter, Prompt, ScoredSample
from rayalign.run_dir import RoundDir
from rayalign.stages import Generator, Purpose, Reporter, SampledShard, SamplingPlan, ScoredShard, Scorer, Shard

SHARD_PROMPTS = 32


def make_shards(prompts: Sequence[Prompt]) -> list[Shard]:
    starts = range(0, len(prompts), SHARD_PROMPTS)
    return [Shard(i, tuple(prompts[start : start + SHARD_PROMPTS])) for i, start in enumerate(starts)]


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

    def scored(self, shards: Sequence[Shard], advance: Advance) -> Iterator[ScoredShard]:
        """Finished shards in the order they finish."""
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

    def scored(self, shards: Sequence[Shard], advance: Advance) -> Iterator[ScoredShard]:
        return self.scorer.score(_counted(self.generator.sample(shards, self.plan, self.adapter), advance))


@dataclass(frozen=True, slots=True)
class Given:
    """`Source`: responses that are there already, with their scores."""

    rows_of: Callable[[Prompt], list[ScoredSample]]
    """A prompt's responses, by index."""

    def count(self, prompt: Prompt) -> int:
        return len(self.rows_of(prompt))

    def scored(self, shards: Sequence[Shard], advance: Advance) -> Iterator[ScoredShard]:
        for shard in shards:
            rows = [row for prompt in shard.prompts for row in self.rows_of(prompt)]
            advance(len(rows), sum(len(row.sample.token_ids) for row in rows))
            yield ScoredShard(shard, rows)


def sample_and_score(
    round_dir: RoundDir,
    shards: Sequence[Shard],
    plan: SamplingPlan,
    adapter: Adapter,
    generator: Generator,
    scorer: Scorer,
    reporter: Reporter,
    *,
    stage: str,
) -> StageTotals:
    """Sample, score and commit every shard that is not committed yet."""
    source = Sampled(plan, adapter, generator, scorer)
    return commit_shards(round_dir, shards, source, plan.purpose, reporter, stage=stage)


def commit_shards(
    round_dir: RoundDir,
    shards: Sequence[Shard],
    source: Source,
    purpose: Purpose,
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
    missing = [shard for shard in shards if round_dir.committed(f"{purpose}-{shard.index:05d}") is None]
    total, todo = count_responses(shards, source), count_responses(missing, source)
    with reporter.stage(stage, round_dir.index, total, done=total - todo) as progress:
        if missing:
            for scored in source.scored(missing, progress.advance):
                _check_complete(scored, source)
                if check is not None:
                    check(scored)
                round_dir.commit_shard(purpose, scored.shard.index, scored.rows)
    return StageTotals(progress.seconds, progress.items, progress.tokens)


def count_responses(shards: Sequence[Shard], source: Source) -> int:
    return sum(source.count(prompt) for shard in shards for prompt in shard.prompts)


def _counted(sampled: Iterator[SampledShard], advance: Advance) -> Iterator[SampledShard]:
    for item in sampled:
        advance(len(item.samples), sum(len(sample.token_ids) for sample in item.samples))
        yield item


def _check_complete(scored: ScoredShard, source: Source) -> None:
    """Every (prompt, index) of the shard once, in order: a misaligned score must never be stored."""
    expected = [(prompt.id, index) for prompt in scored.shard.prompts for index in range(source.count(prompt))]
    found = [(row.sample.prompt_id, row.sample.index) for row in scored.rows]
    if found != expected:
        raise AssertionError(f"shard {scored.shard.index}: samples {found[:3]}... are not {expected[:3]}...")


class Unscored:
    """`Scorer` of samples that nobody scores."""

    def score(self, sampled: Iterable[SampledShard]) -> Iterator[ScoredShard]:
        for item in sampled:
            yield ScoredShard(item.shard, [ScoredSample(sample, [], None) for sample in item.samples])


def read_rows(round_dir: RoundDir, purpose: str, shards: Sequence[Shard]) -> list[ScoredSample]:
    """All committed rows of a stage, in shard order."""
    return [row for shard in shards for row in round_dir.read_shard(purpose, shard.index) or []]
