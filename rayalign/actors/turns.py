"""Generators and learner on the same devices: one of them has the memory, the other one is away.

    loop ── sample, logps, load ──► TurnGenerator ─┐            ┌─► learner leaves: its parameters to host memory
                                                   ├─► Turns ──►│   generators wake, and prove what they serve
    loop ── update, logps ────────► TurnLearner ───┘            └─► and the other way round

The loop knows nothing of it: it calls the two as ever, and the device goes to whom it calls. A turn passes when the one
side has let go of everything; work of one side is never begun while the other side's goes on. Who dies, dies in its own
turn or asleep: a worker of the learner that is started anew waits in host memory, and a generator that died asleep is
noticed, and made again, when the generators are woken.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, Protocol

from rayalign.parts import Generator, Learner
from rayalign.records import (
    Adapter,
    AdapterFiles,
    Expected,
    Groups,
    JsonObject,
    ReplicaState,
    SampledShard,
    SamplingPlan,
    Shard,
    TokenSequence,
    UpdateResult,
    Which,
)
from rayalign.stopping import POLL_S, check

Side = Literal["generators", "learner"]


class Note(Protocol):
    """Takes the name of an event and its fields, for the log of the run."""

    def __call__(self, kind: str, /, **fields: object) -> None: ...


class Tenant(Protocol):
    """Who can be on the devices, and away from them. Both may be asked twice."""

    def take(self) -> None:
        """Be there, ready for work."""
        ...

    def leave(self) -> None:
        """Be away: no memory of the devices is held when this returns."""
        ...


class Turns:
    """Whose turn it is. Called from several threads.

    Args:
        note: told of every turn: who has the devices now, for which round, and the seconds that it took.
        first: who has the devices when the run begins.
    """

    def __init__(self, tenants: dict[Side, Tenant], note: Note, first: Side = "generators") -> None:
        self._tenants, self._note = tenants, note
        self._changed = threading.Condition()
        self._holder: Side | None = first
        self._at_work = 0
        self._round = 0
        """The one that the newest work is for."""
        self._taken: dict[int, list[float]] = {}
        """Round -> the seconds of each of its turns."""

    @contextmanager
    def of(self, side: Side, round_index: int | None = None) -> Iterator[None]:
        """Context in which a side has the devices; it waits for work of the other one that is under way.

        Args:
            round_index: which round the work is for; null where it does not say.
        """
        with self._changed:
            while self._at_work and self._holder != side:
                self._changed.wait(POLL_S)
                check()
            if round_index is not None:
                self._round = round_index
            if self._holder != side:
                self._pass_to(side)
            self._at_work += 1
        try:
            yield
        finally:
            with self._changed:
                self._at_work -= 1
                self._changed.notify_all()

    def facts(self, round_index: int) -> JsonObject:
        """How often the devices changed hands for a round, and the seconds that this took."""
        taken = self._taken.get(round_index, [])
        return {"count": len(taken), "seconds": round(sum(taken), 3)}

    def _pass_to(self, side: Side) -> None:
        # Nobody has it until all is done: where this fails, both are asked again.
        self._holder, began = None, time.monotonic()
        for other, tenant in self._tenants.items():
            if other != side:
                tenant.leave()
        left = time.monotonic()
        self._tenants[side].take()
        taken = time.monotonic()
        self._holder = side
        self._taken.setdefault(self._round, []).append(taken - began)
        seconds = {"left_s": round(left - began, 3), "taken_s": round(taken - left, 3)}
        self._note("turn", round=self._round, holder=side, **seconds)


class TurnGenerator:
    """`Generator` whose work is done in the generators' turns."""

    def __init__(self, inner: Generator, turns: Turns) -> None:
        self._inner, self._turns = inner, turns

    def load(self, adapter: Adapter, files: AdapterFiles | None) -> list[ReplicaState]:
        with self._turns.of("generators", adapter.version):
            return self._inner.load(adapter, files)

    def sample(self, shards: Iterable[Shard], plan: SamplingPlan, adapter: Adapter) -> Iterator[SampledShard]:
        with self._turns.of("generators", plan.round_index):
            yield from self._inner.sample(shards, plan, adapter)

    def logps(self, sequences: Sequence[TokenSequence], adapter: Adapter) -> dict[str, list[list[float]]]:
        with self._turns.of("generators"):
            return self._inner.logps(sequences, adapter)

    def under_way(self) -> int:
        return self._inner.under_way()

    def expect(self, expected: Expected) -> None:
        self._inner.expect(expected)


class TurnLearner:
    """`Learner` whose work is done in the learner's turns."""

    def __init__(self, inner: Learner, turns: Turns) -> None:
        self._inner, self._turns = inner, turns

    def progress(self) -> float:
        return self._inner.progress()

    def update(
        self,
        round_index: int,
        groups: Groups,
        parent: AdapterFiles | None,
        sampler: AdapterFiles | None,
        rate: float = 1.0,
    ) -> UpdateResult:
        with self._turns.of("learner", round_index):
            return self._inner.update(round_index, groups, parent, sampler, rate)

    def logps(
        self,
        sequences: Sequence[TokenSequence],
        which: Which,
        current: AdapterFiles | None,
        round_start: AdapterFiles | None = None,
    ) -> list[list[float]]:
        with self._turns.of("learner"):
            return self._inner.logps(sequences, which, current, round_start)
