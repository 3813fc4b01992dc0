"""Sample and score a round's prompts, shard by shard, each shard committed as soon as it has both."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rayalign.records import Adapter, Prompt, ScoredSample
from rayalign.run_dir import RoundDir
from rayalign.stages import (
    SHARD_PROMPTS,
    Generator,
    Reporter,
    SampledShard,
    SamplingPlan,
    ScoredShard,
    Scorer,
    Shard,
    Shards,
)


def make_shards(ids: Sequence[Any] | np.ndarray, take: Callable[[Any], Sequence[Prompt]]) -> Shards:
    """Shards of the prompts with these ids, in this order.

    Args:
        take: the prompts of some of the ids (`PromptStore.take`).
    """

    def make(index: int) -> Shard:
        return Shard(index, tuple(take(ids[index * SHARD_PROMPTS : (index + 1) * SHARD_PROMPTS])))

    starts = range(0, len(ids), SHARD_PROMPTS)
    return Shards({i: min(SHARD_PROMPTS, len(ids) - start) for i, start in enumerate(starts)}, make)


@dataclass(frozen=True, slots=True)
class StageTotals:
    """What one sampling stage did in this process; committed shards of an earlier attempt do not count."""

    seconds: float
    items: int
    tokens: int


def sample_and_score(
    round_dir: RoundDir,
    shards: Shards,
    plan: SamplingPlan,
    adapter: Adapter,
    generator: Generator,
    scorer: Scorer,
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
    missing = [i for i in shards.indices if round_dir.committed(f"{plan.purpose}-{i:05d}") is None]
    total = shards.prompts * plan.responses
    todo = sum(shards.sizes[i] for i in missing) * plan.responses
    with reporter.stage(stage, plan.round_index, total, done=total - todo) as progress:
        if missing:
            sampled = generator.sample(map(shards.make, missing), plan, adapter)
            for scored in scorer.score(_counted(sampled, progress.advance)):
                _check_complete(scored, plan)
                if check is not None:
                    check(scored)
                round_dir.commit_shard(plan.purpose, scored.shard.index, scored.rows)
    return StageTotals(progress.seconds, progress.items, progress.tokens)


def _counted(sampled: Iterator[SampledShard], advance: Callable[[int, int], None]) -> Iterator[SampledShard]:
    for item in sampled:
        advance(len(item.samples), sum(len(sample.token_ids) for sample in item.samples))
        yield item


def _check_complete(scored: ScoredShard, plan: SamplingPlan) -> None:
    """Every (prompt, index) of the shard once, in order: a misaligned score must never be stored."""
    expected = [(prompt.id, index) for prompt in scored.shard.prompts for index in range(plan.responses)]
    found = [(row.sample.prompt_id, row.sample.index) for row in scored.rows]
    if found != expected:
        raise AssertionError(f"shard {scored.shard.index}: samples {found[:3]}... are not {expected[:3]}...")


class Unscored:
    """`Scorer` of samples that nobody scores."""

    def score(self, sampled: Iterable[SampledShard]) -> Iterator[ScoredShard]:
        for item in sampled:
            yield ScoredShard(item.shard, [ScoredSample(sample, [], None) for sample in item.samples])


def read_rows(round_dir: RoundDir, purpose: str, shards: Shards) -> list[ScoredSample]:
    """All committed rows of a stage, in shard order."""
    return [row for index in shards.indices for row in round_dir.read_shard(purpose, index) or []]
