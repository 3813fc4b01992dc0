"""What a generator replica has to show before it serves: the version and checksum it was given, and log-probabilities
as close to the learner's as at version 0."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rayalign.errors import SyncError
from rayalign.records.adapter import Adapter, ReplicaState, TokenSequence

SAME_GAP = 1e-3
"""Mean difference, nats per token, up to which the generator's log-probabilities pass for the learner's: a tenth of a
nat for an answer of a hundred tokens, if all differed to one side."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What replicas that come after a sync, or wake, are measured by, as those there were."""

    version: int
    sequences: Sequence[TokenSequence]
    """The canaries."""
    logps: Sequence[Sequence[float]]
    """The learner's, of every response token (nats)."""
    limit: float
    """Mean absolute difference per token that is allowed (nats)."""


def mean_difference(left: Sequence[Sequence[float]], right: Sequence[Sequence[float]]) -> float:
    """Mean absolute difference per token."""
    pairs = [(a, b) for x, y in zip(left, right, strict=True) for a, b in zip(x, y, strict=True)]
    return sum(abs(a - b) for a, b in pairs) / len(pairs)


def check_state(state: ReplicaState, adapter: Adapter) -> None:
    """
    Raises:
        SyncError: the replica does not hold what it was given.
    """
    if (state.version, state.sha256) != (adapter.version, adapter.sha256):
        raise SyncError(
            f"{state.replica} holds version {state.version} with checksum {state.sha256}",
            f"it was given version {adapter.version} with checksum {adapter.sha256}",
            "see its log; the run can be resumed",
        )


def check_gap(replica: str, expected: Expected, logps: Sequence[Sequence[float]]) -> None:
    """
    Raises:
        SyncError: a replica's log-probabilities of the canaries are too far from the learner's.
    """
    gap = mean_difference(logps, expected.logps)
    if not gap <= expected.limit:
        raise SyncError(
            f"{replica} came with adapter {expected.version} and differs from the learner by {gap:.4f} nats a token "
            "on the canaries",
            f"{expected.limit:.4f} is the most that sync.tolerance allows",
            "it does not serve what the learner trained: see its log; the run can be resumed",
        )
