"""A pool whose replicas and clock are made up: seconds pass only where the pool waits, so that minutes take none."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import RayActorError

from rayalign.actors import members, pool, pool_map, pool_use
from rayalign.actors.prefetch import NOT_READY

TOKENS_PER_S = 1000
"""Of each answer that an engine runs."""


@dataclass(eq=False)
class Ref:
    """A call's answer, there from `at` on; an exception is raised."""

    at: float
    answer: Any


class Clock:
    """Stands for Ray's waits and for `time` in the pool's modules."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        for module in (members, pool, pool_map, pool_use):
            monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))
        for module in (members, pool, pool_map):
            monkeypatch.setattr(module, "answer_of", self.answer_of)
        for module in (pool, pool_map):
            monkeypatch.setattr(module, "first_done", self.first_done)
        for module in (members, pool):
            monkeypatch.setattr(module, "end", lambda replica: replica.die())
        monkeypatch.setattr(pool_map, "Prefetch", Source)
        monkeypatch.setattr(pool, "await_done", lambda ref, limit: self.first_done([ref], limit))
        monkeypatch.setattr(pool, "ray", SimpleNamespace(wait=lambda *_, **__: None))

    def first_done(self, refs: Sequence[Ref], timeout_s: float) -> list[Ref]:
        first = min(refs, key=lambda ref: ref.at)
        done = first.at <= self.now + timeout_s
        self.now = max(self.now, first.at) if done else self.now + timeout_s
        return [first] if done else []

    def answer_of(self, ref: Ref) -> Any:
        if isinstance(ref.answer, Exception):
            raise ref.answer
        return ref.answer


class Source:
    """Items that are there at once: on a made-up clock a thread that reads ahead would come too late."""

    def __init__(self, items: Iterable[Any]) -> None:
        self._items, self.exhausted = iter(items), False

    def take(self, *, block: bool) -> Any:
        try:
            return next(self._items)
        except StopIteration:
            self.exhausted = True
            return NOT_READY

    def close(self, wait_s: float = 0) -> None:
        self.exhausted = True


@dataclass
class Replica:
    """Works on one call after the other."""

    clock: Clock
    index: int
    from_s: float
    """When it is there."""
    dies_s: float = math.inf
    free_s: float = 0.0
    idle: list[tuple[float, float]] = field(default_factory=list)
    """From when till when it had no call, between two."""
    begun: list[float] = field(default_factory=list)
    calls: list[Ref] = field(default_factory=list)

    def call(self, seconds: float, answer: Any) -> Ref:
        start = max(self.clock.now, self.free_s, self.from_s)
        if self.begun and start > self.free_s:
            self.idle.append((self.free_s, start))
        self.begun.append(start)
        self.free_s = start + seconds
        return self.ref(self.free_s, answer)

    def ref(self, at: float, answer: Any) -> Ref:
        made = Ref(at, answer) if at < self.dies_s else Ref(max(self.dies_s, self.clock.now), RayActorError())
        self.calls.append(made)
        return made

    def die(self, in_s: float = 0.0) -> None:
        self.dies_s = self.clock.now + in_s
        for call in self.calls:
            if call.at > self.dies_s:
                call.at, call.answer = self.dies_s, RayActorError()

    @property
    def describe(self) -> Any:
        made = {"address": f"node-{self.index}", "batch": 256}
        return SimpleNamespace(remote=lambda: self.ref(max(self.clock.now, self.from_s), made))

    @property
    def close(self) -> Any:
        return SimpleNamespace(remote=lambda: self.ref(self.clock.now, None))


@dataclass
class Engine(Replica):
    """Replica whose calls are shards of answers: as many as its batch takes run at once, the rest wait in line."""

    batch: int = 256
    runs: list[tuple[float, float]] = field(default_factory=list)
    """From when till when each answer ran."""

    def __post_init__(self) -> None:
        self._slots = [0.0] * self.batch

    def sample(self, lengths: Sequence[int]) -> Ref:
        for length in lengths:
            begin = max(self.clock.now, heapq.heappop(self._slots))
            end = begin + length / TOKENS_PER_S
            heapq.heappush(self._slots, end)
            self.runs.append((begin, end))
        self.begun.append(self.clock.now)
        return self.ref(max(end for _, end in self.runs[-len(lengths) :]), None)


def make_pool(
    clock: Clock, starts: Callable[[int, int], Replica], least: int, most: int | None = None, **settings: Any
) -> tuple[pool.Pool[Any], list[Replica], list[str]]:
    """A pool, all replicas that it ever made, and what it said.

    Args:
        starts: makes replica i; given i, and how many were made before.
    """
    made: list[Replica] = []
    said: list[str] = []
    numbers = itertools.count()

    def make(i: int) -> Replica:
        made.append(starts(i, next(numbers)))
        return made[-1]

    settings = {"timeout_s": 10, "start_timeout_s": 900, **settings}
    return pool.Pool("fake", make, least, most, say=said.append, **settings), made, said
