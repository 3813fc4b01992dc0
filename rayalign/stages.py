"""What the loop knows of its parts: Protocols and the small values they exchange. No ray, torch or vllm here.

The loop drives these six parts; `launch` wires the real ones from `actors/`, tests pass hand-written fakes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Protocol

from rayalign.records import Adapter, EvalReport, Prompt, Sample, ScoredSample

SHARD_PROMPTS = 32
Purpose = Literal["train", "revision", "evaluation", "greedy", "target"]
Which = Literal["current", "round_start", "base"]


@dataclass(frozen=True, slots=True)
class Shard:
    """A fixed slice of a round's prompts, the unit of dispatch, retry and commit."""

    index: int
    prompts: tuple[Prompt, ...]


@dataclass(frozen=True, slots=True)
class Shards:
    """A round's shards, each made when it is asked for: a round may have more prompts than memory holds."""

    sizes: dict[int, int]
    """Prompts per shard index."""
    make: Callable[[int], Shard]

    @classmethod
    def of(cls, shards: Sequence[Shard]) -> Shards:
        by_index = {shard.index: shard for shard in shards}
        return cls({index: len(shard.prompts) for index, shard in by_index.items()}, by_index.__getitem__)

    def only(self, indices: Iterable[int]) -> Shards:
        """Some of them."""
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
class SampledShard:
    shard: Shard
    samples: list[Sample]
    """K per prompt, ordered by prompt and index."""
    fresh: bool = False
    """Score it anew: no result that a scorer has stored may answer for it."""


@dataclass(frozen=True, slots=True)
class ScoredShard:
    shard: Shard
    rows: list[ScoredSample]
    """In the order of the samples."""


@dataclass(frozen=True, slots=True)
class TokenSequence:
    """A prompt and a response to compute log-probabilities of."""

    prompt_token_ids: list[int]
    response_token_ids: list[int]


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """What one generator replica says it serves."""

    replica: str
    version: int
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Groups:
    """The training groups of a round, on disk."""

    files: list[str]
    """Parquet files relative to the run folder; the order of their rows is that of the groups."""
    kept: int
    dropped: dict[str, int]
    """Groups per drop reason."""
    stats: dict[str, float] = field(default_factory=dict)
    drop_files: list[str] = field(default_factory=list)
    """Parquet files with the id and drop reason of each dropped group."""

    @classmethod
    def from_commit(cls, saved: dict[str, Any]) -> Groups:
        """Of an older version's commit, what this one knows."""
        return cls(**{one.name: saved[one.name] for one in fields(cls) if one.name in saved})


@dataclass(frozen=True, slots=True)
class AdapterFiles:
    """A PEFT adapter as bytes, on its way between processes; file name -> content."""

    version: int
    sha256: str
    files: dict[str, bytes]


@dataclass(frozen=True, slots=True)
class UpdateResult:
    adapter: AdapterFiles
    metrics: dict[str, float]
    """Means over the round's steps: loss, objective metrics, gradient norm, counts."""
    steps: list[dict[str, float]]
    """The same, step by step."""
    flagged: list[dict[str, Any]] = field(default_factory=list)
    """CUT: some flawed responses token by token, with what was flagged before the update."""


class Generator(Protocol):
    def load(self, adapter: Adapter, files: AdapterFiles | None) -> list[ReplicaState]:
        """Make every replica hold `adapter` (files are null for the base); each says what it then holds."""
        ...

    def sample(self, shards: Iterable[Shard], plan: SamplingPlan, adapter: Adapter) -> Iterator[SampledShard]:
        """Finished shards in the order they finish.

        Raises:
            AdapterVersionError: a replica does not hold `adapter`.
        """
        ...

    def logps(self, sequences: Sequence[TokenSequence], adapter: Adapter) -> dict[str, list[list[float]]]:
        """Per replica, the raw log-probability of every response token (nats), computed by that replica."""
        ...


class Scorer(Protocol):
    def score(self, sampled: Iterable[SampledShard]) -> Iterator[ScoredShard]:
        """Scored shards in the order they finish; starts while `sampled` still goes on."""
        ...


class GroupBuilder(Protocol):
    def build(self, round_index: int, shards: Sequence[int], seed: int) -> Groups:
        """Build and write the round's groups from its committed shards."""
        ...

    def revision_shards(self, round_index: int, shards: Sequence[int]) -> Shards:
        """Of each committed shard that has flawed responses, the prompts that ask for better ones."""
        ...


class Learner(Protocol):
    def update(self, round_index: int, groups: Groups, parent: AdapterFiles | None) -> UpdateResult:
        """Train one round from `parent` (null: from the base) and give the new adapter."""
        ...

    def logps(
        self,
        sequences: Sequence[TokenSequence],
        which: Which,
        current: AdapterFiles | None,
        round_start: AdapterFiles | None = None,
    ) -> list[list[float]]:
        """The log-probability of every response token (nats, temperature 1) under one of three policies."""
        ...


class Evaluator(Protocol):
    def evaluate(self, round_index: int, adapter: Adapter, files: AdapterFiles | None) -> EvalReport:
        """Sample and score the held-out prompts and measure them against the baselines."""
        ...

    def trust(self, round_index: int) -> dict[str, Any]:
        """How far the round's scores can be trusted, for its report; after `evaluate` where that is due."""
        ...

    def prompt_text(self, prompt_id: str) -> str:
        """What a held-out prompt asks, for display."""
        ...


class StageProgress(Protocol):
    items: int
    tokens: int

    @property
    def seconds(self) -> float: ...

    def advance(self, items: int, tokens: int = 0) -> None: ...


class Reporter(Protocol):
    def say(self, text: str) -> None:
        """One line for the user."""
        ...

    def event(self, kind: str, **fields: Any) -> None:
        """One line of `metrics.jsonl`."""
        ...

    def stage(self, name: str, round_index: int, total: int, done: int = 0) -> AbstractContextManager[StageProgress]:
        """A progress bar over one stage of a round; its end is an event with seconds, items and tokens."""
        ...

    def write(self) -> None:
        """Rewrite the report from the run folder."""
        ...
