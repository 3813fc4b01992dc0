"""What the loop knows of its parts: Protocols and the small values they exchange. No ray, torch or vllm here.

The loop drives these six parts; `launch` wires the real ones from `actors/`, tests pass hand-written fakes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from rayalign.records import (
    Adapter,
    AdapterFiles,
    EvalReport,
    Expected,
    Groups,
    JsonObject,
    JudgeQuestion,
    JudgeVerdict,
    ReplicaState,
    SampledShard,
    SamplingPlan,
    SavedAdapter,
    ScoredShard,
    Shard,
    Shards,
    TokenSequence,
    UpdateResult,
    Which,
)


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

    def under_way(self) -> int:
        """Answers that are finished, of shards that are not; may be asked from another thread."""
        ...

    def logps(self, sequences: Sequence[TokenSequence], adapter: Adapter) -> dict[str, list[list[float]]]:
        """Per replica, the raw log-probability of every response token (nats), computed by that replica."""
        ...

    def expect(self, expected: Expected) -> None:
        """What a replica that comes later has to show before it gets work, where it holds this version."""
        ...


class Scorer(Protocol):
    def score(self, sampled: Iterable[SampledShard]) -> Iterator[ScoredShard]:
        """Scored shards in the order they finish; starts while `sampled` still goes on."""
        ...


class GroupBuilder(Protocol):
    def start(self) -> None:
        """Get ready beside other work; nothing that is measured is under way."""
        ...

    def build(self, round_index: int, shards: Sequence[int], seed: int) -> Groups:
        """Build and write the round's groups from its committed shards."""
        ...

    def revision_shards(self, round_index: int, shards: Sequence[int]) -> Shards:
        """The prompts that ask for better responses, of each committed shard that has flawed ones."""
        ...


class Learner(Protocol):
    def progress(self) -> float:
        """The share of an update under way that is done, 0 to 1; may be asked from another thread."""
        ...

    def update(
        self,
        round_index: int,
        groups: Groups,
        parent: AdapterFiles | None,
        sampler: AdapterFiles | None,
        rate: float = 1.0,
    ) -> UpdateResult:
        """Train one round from `parent` (null: from the base) and give the new adapter.

        Args:
            sampler: the adapter that sampled the groups' responses (null: the base), which `reference: round_start`
                compares with.
            rate: how many times the config's learning rate the steps have.
        """
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


class Turns(Protocol):
    """Who has the devices, where generators and learner are on the same ones."""

    def facts(self, round_index: int) -> JsonObject:
        """How often they changed hands for a round, and how long that took; for its report."""
        ...


class Evaluator(Protocol):
    def evaluate(self, round_index: int, served: SavedAdapter, gap: float) -> EvalReport:
        """Sample and score the held-out prompts and measure them against the baselines.

        Args:
            gap: mean difference of the generator's and the learner's log-probabilities, as proven (nats per token).
        """
        ...

    def trust(self, round_index: int) -> JsonObject:
        """How far the round's scores can be trusted, for its report; after `evaluate` where that is due."""
        ...

    def prompt_text(self, prompt_id: str) -> str:
        """What a held-out prompt asks, for display."""
        ...


class Benchmarks(Protocol):
    def run(self, round_index: int, served: SavedAdapter) -> JsonObject:
        """What the benchmarks that are due after a round measure on what is served, by name; for its report."""
        ...


class Judge(Protocol):
    """Who answers what a benchmark asks of the model's answers."""

    @property
    def version(self) -> str:
        """Hash of model, templates and sampling."""
        ...

    def judge(self, questions: Sequence[JudgeQuestion]) -> list[JudgeVerdict]:
        """One verdict per question, in their order; one that failed says why."""
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

    def event(self, kind: str, **fields: object) -> None:
        """One line of `metrics.jsonl`."""
        ...

    def stage(
        self, name: str, round_index: int, total: int, done: int = 0, probe: Callable[[], int] | None = None
    ) -> AbstractContextManager[StageProgress]:
        """A progress bar over one stage of a round; its end is an event with seconds, items and tokens.

        Args:
            probe: items that are done of what is under way; asked now and then, from another thread.
        """
        ...

    def write(self) -> None:
        """Rewrite the report from the run folder."""
        ...
