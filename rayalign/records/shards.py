"""A slice of a round on its way: prompts asked, answers sampled, answers scored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from rayalign.records.rows import Prompt, Sample, ScoredSample

SHARD_PROMPTS = 32
Purpose = Literal["train", "revision", "evaluation", "greedy", "target", "benchmark"]
ScoredPurpose = Literal["train", "evaluation", "greedy"]
"""What of a round is kept with scores."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A fixed slice of a round's prompts, the unit of scoring and commit."""

    index: int
    prompts: tuple[Prompt, ...]


@dataclass(frozen=True, slots=True)
class Shards:
    """A round's shards, each made when it is asked for: a round may have more prompts than memory holds."""

    sizes: dict[int, int]
    """How many prompts each shard has, by its index."""
    make: Callable[[int], Shard]

    @classmethod
    def of(cls, shards: Sequence[Shard]) -> Shards:
        by_index = {shard.index: shard for shard in shards}
        return cls({index: len(shard.prompts) for index, shard in by_index.items()}, by_index.__getitem__)

    def only(self, indices: Iterable[int]) -> Shards:
        """The shards with these indices alone."""
        return Shards({index: self.sizes[index] for index in indices}, self.make)

    @property
    def indices(self) -> list[int]:
        return list(self.sizes)

    @property
    def prompts(self) -> int:
        return sum(self.sizes.values())


@dataclass(frozen=True, slots=True)
class SamplingPlan:
    """How to sample one round's shards; seeds follow from (`seed`, `round_index`, `purpose`, prompt id, index)."""

    round_index: int
    purpose: Purpose
    seed: int
    responses: int
    temperature: float
    top_p: float
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Repeat:
    """Asks for answers to be scored once more by the scorers that may reply otherwise; the others' scores stay."""

    number: int
    """1 for the second time."""
    rows: list[ScoredSample]
    """The samples as they were scored the first time, in their order."""


@dataclass(frozen=True, slots=True)
class SampledShard:
    shard: Shard
    samples: list[Sample]
    """K samples per prompt, ordered by prompt and index."""
    fresh: bool = False
    """Score it anew: no result that a scorer has stored may answer for it."""
    repeat: Repeat | None = None


@dataclass(frozen=True, slots=True)
class ScoredShard:
    shard: Shard
    rows: list[ScoredSample]
    """One row per sample, in the order of the samples."""
