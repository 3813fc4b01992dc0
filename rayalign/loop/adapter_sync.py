"""Adapter sync: bring a new adapter to every generator replica, and prove that it is served.

Invariants:
* A replica serves exactly one version, and refuses requests for another.
* After `sync`, every replica reported this version and this checksum, and its log-probabilities of the canary
  sequences are as close to the learner's as they were at version 0, within the tolerance.
* A replica that comes later, or in another's place, gets work only after the same proof.
* When the proof fails, the previous adapter is back on every replica before the error is raised.
"""

from __future__ import annotations

from dataclasses import dataclass

from rayalign.errors import SyncError
from rayalign.parts import Generator, Learner
from rayalign.records import (
    Adapter,
    Expected,
    SamplingPlan,
    SavedAdapter,
    Shard,
    TokenSequence,
    check_state,
    mean_difference,
)


@dataclass(frozen=True, slots=True)
class SyncProof:
    """What was measured; goes into the round's report."""

    version: int
    sha256: str | None
    replicas: int
    canary_gap: float
    """Largest over replicas of mean |log-prob of generator - of learner|, nats per token."""
    base_gap: float
    """The same at version 0."""
    moved: float
    """Mean |learner's log-prob now - at version 0|: how far the adapter moves these tokens, so how much a replica
    that still served the base would be off."""


class AdapterSync:
    """Owns which adapter the generators serve.

    Args:
        canary_prompts: the base answers them once; the log-probabilities of these answers are compared.
        plan: how the base answers them.
        tolerance: nats per token by which the gap may exceed the gap at version 0.
    """

    def __init__(
        self, generator: Generator, learner: Learner, canary_prompts: Shard, plan: SamplingPlan, tolerance: float
    ) -> None:
        self._generator = generator
        self._learner = learner
        self._canary_prompts = canary_prompts
        self._plan = plan
        self._canaries: list[TokenSequence] = []
        self._tolerance = tolerance
        self._base_logps: list[list[float]] | None = None
        self._base_gap = 0.0
        self._served: SavedAdapter | None = None

    def start(self, base: SavedAdapter) -> SyncProof:
        """Serve the base and measure the gap between generator and learner there."""
        self._load(base)
        self._canaries = self._sample_canaries(base.record)
        self._base_logps = self._learner.logps(self._canaries, "base", None)
        self._base_gap = self._gap(base.record, self._base_logps)
        self._expect(base.record, self._base_logps)
        self._served = base
        return SyncProof(0, None, self._replicas, self._base_gap, self._base_gap, 0.0)

    def sync(self, new: SavedAdapter) -> SyncProof:
        """Serve `new` on every replica, proven.

        Raises:
            SyncError: the proof failed; the adapter served before is restored.
        """
        if self._served is None or self._base_logps is None:
            raise SyncError("adapter sync was not started", "there is no gap at version 0 to compare with")
        try:
            proof = self._prove(new, self._base_logps)
        except SyncError:
            self._load(self._served)
            raise
        self._served = new
        return proof

    def _sample_canaries(self, base: Adapter) -> list[TokenSequence]:
        (sampled,) = self._generator.sample([self._canary_prompts], self._plan, base)
        prompts = {prompt.id: prompt.token_ids for prompt in self._canary_prompts.prompts}
        canaries = [TokenSequence(prompts[s.prompt_id], s.token_ids) for s in sampled.samples if s.token_ids]
        if not canaries:
            raise SyncError(
                "the base model answers the canary prompts with nothing",
                "there is nothing to compare",
                "check the chat template (prompts.template) and sampling.max_tokens",
            )
        return canaries

    def _prove(self, new: SavedAdapter, base_logps: list[list[float]]) -> SyncProof:
        # The learner first: where it shares its devices with the generators, they change once less.
        adapter, learner_logps = new.record, self._learner.logps(self._canaries, "current", new.files)
        self._load(new)
        gap = self._gap(adapter, learner_logps)
        if not gap <= self._limit:
            raise SyncError(
                f"adapter {adapter.version}: generator and learner differ by {gap:.4f} nats per token on the canaries",
                f"at version 0 they differ by {self._base_gap:.4f}, and sync.tolerance is {self._tolerance}",
                "the generator does not serve what the learner trained: see logs/; where both only round differently, "
                "raise sync.tolerance; the run can be resumed",
            )
        self._expect(adapter, learner_logps)
        moved = mean_difference(learner_logps, base_logps)
        return SyncProof(adapter.version, adapter.sha256, self._replicas, gap, self._base_gap, moved)

    def _load(self, saved: SavedAdapter) -> None:
        adapter = saved.record
        states = self._generator.load(adapter, saved.files)
        self._replicas = len(states)
        for state in states:
            check_state(state, adapter)

    @property
    def _limit(self) -> float:
        return self._base_gap + self._tolerance

    def _expect(self, adapter: Adapter, learner_logps: list[list[float]]) -> None:
        self._generator.expect(Expected(adapter.version, self._canaries, learner_logps, self._limit))

    def _gap(self, adapter: Adapter, learner_logps: list[list[float]]) -> float:
        per_replica = self._generator.logps(self._canaries, adapter)
        return max(mean_difference(logps, learner_logps) for logps in per_replica.values())
