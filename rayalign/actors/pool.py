"""A pool of replicas of one actor: dispatch with a bounded number in flight, retry, replace, time out, name all.

One item (a shard) is one call. An item whose replica died goes to another replica; a dead replica is replaced and set
up again before it gets work. What an actor's method raises itself is not retried: it would raise again.

Who waits for whom, where the scorers' pool works on what the generators' pool gives:

    loop ──next()──► scorers' map ──ray.wait()──► calls on scorer-0, scorer-1, ...
                          ▲ take()
                     a queue of a few ◄── thread ──next()──► generators' map ──ray.wait()──► calls on generator-0, ...
                                                                  ▲ take()
                                                             a queue of a few ◄── thread ──next()──► shards

    A map waits for its calls, and for its next item only while none of its calls is under way; so neither pool holds
    the other up. Nobody waits for the loop: a full queue holds the thread behind it back. A replacement is waited for
    by the map that found the death.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import ray
from ray import ObjectRef
from ray.exceptions import GetTimeoutError, ObjectLostError, RayActorError, RayTaskError

from rayalign.actors.handles import Replica, end, fetch, first_done, our_error, reason
from rayalign.actors.prefetch import NOT_READY, Prefetch
from rayalign.errors import ActorFailedError, StageTimeoutError
from rayalign.records import JsonObject
from rayalign.stopping import POLL_S, asked

Say = Callable[[str], None]
"""Tells the user one line."""

MAX_TRIES = 3
CLOSE_TIMEOUT_S = 5
STOP_TIMEOUT_S = 1
DEATHS = (RayActorError, ObjectLostError)
"""The replica died, or its node did with a result that nobody had fetched yet."""

T = TypeVar("T")
R = TypeVar("R")
H = TypeVar("H", bound=Replica)


class Pool(Generic[H]):
    """Replicas of an actor.

    Args:
        name: what messages call it; replica i is `<name>-<i>`.
        make: makes replica i and returns its handle.
        size: number of replicas.
        in_flight: calls that each replica may have at once.
        timeout_s: limit of one call, from its dispatch.
        start_timeout_s: limit of a replica's start, the wait for a node included.
        say: told when a replica is replaced.
        set_up: run on every replica that replaces a dead one, before it gets work.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[int], H],
        size: int,
        *,
        timeout_s: float,
        start_timeout_s: float,
        say: Say,
        in_flight: int = 2,
        set_up: Callable[[H], None] | None = None,
    ) -> None:
        self.name = name
        self.in_flight = in_flight
        self.timeout_s = timeout_s
        self.closed = False
        self._make = make
        self._start_timeout_s = start_timeout_s
        self._say = say
        self._set_up = set_up
        self._maps: list[_Map[Any, Any, H]] = []
        self._making = threading.Lock()
        self.replicas = [make(i) for i in range(size)]

    def ready(self) -> list[JsonObject]:
        """Wait until every replica answers `describe`; returns their descriptions."""
        return self.broadcast("describe", lambda replica: replica.describe.remote(), timeout_s=self._start_timeout_s)

    def broadcast(self, what: str, ask: Callable[[H], ObjectRef[R]], *, timeout_s: float | None = None) -> list[R]:
        """Ask every replica; a dead one is replaced once and asked again.

        Args:
            what: the method's name, for messages.
        """
        limit = timeout_s or self.timeout_s
        refs = [ask(replica) for replica in self.replicas]
        results = []
        for i, ref in enumerate(refs):
            try:
                results.append(self.get(ref, i, what, limit))
            except DEATHS as death:
                self.replace(i, death)
                results.append(self.get(ask(self.replicas[i]), i, what, limit))
        return results

    def map(self, what: str, ask: Callable[[H, T], ObjectRef[R]], items: Iterable[T]) -> Iterator[tuple[T, R]]:
        """Every item with the answer to it, in the order in which answers come.

        Args:
            what: the method's name, for messages.
            items: read ahead in a thread, so that an iterator that waits for another pool does not hold this one up.
        """
        under_way = _Map(self, what, ask, items)
        self._maps.append(under_way)
        try:
            yield from under_way.results()
        finally:
            under_way.stop()
            self._maps.remove(under_way)

    def close(self) -> None:
        """Let every replica tidy up, then end it; a `map` that is under way in another thread ends too."""
        with self._making:
            self.closed = True
        farewells = [replica.close.remote() for replica in self.replicas]
        # One that is still loading answers only then.
        ray.wait(farewells, num_returns=len(farewells), timeout=STOP_TIMEOUT_S if asked() else CLOSE_TIMEOUT_S)
        for replica in self.replicas:
            end(replica)
        # A thread that still reads for this pool must not meet a Ray that is shutting down.
        for under_way in list(self._maps):
            under_way.stop(wait_s=STOP_TIMEOUT_S if asked() else CLOSE_TIMEOUT_S)

    def get(self, ref: ObjectRef[R], replica: int, what: str, timeout_s: float) -> R:
        """The answer of a replica.

        Raises:
            StageTimeoutError: it took too long.
            RayActorError, ObjectLostError: the replica died.
            Exception: what the method raised, and of ours what the constructor raised.
        """
        try:
            return fetch(ref, timeout_s)
        except GetTimeoutError:
            raise StageTimeoutError(
                f"{self.name}-{replica}.{what} gave no answer in {timeout_s:g} s",
                "the replica hangs, or the limit is too short for this model",
                f"see logs/{self.name}-{replica}.log, or raise the limit under `limits`; the run can be resumed",
            ) from None
        except RayTaskError as error:
            raise (error.cause if isinstance(error.cause, Exception) else error) from error
        except RayActorError as error:
            # A constructor that raised it would raise it again in a replacement.
            if ours := our_error(error):
                raise ours from error
            raise

    def ended(self) -> ActorFailedError:
        """What is raised where the pool is closed while it is used."""
        return ActorFailedError(f"the {self.name} pool is closed", "its run is ending", "run the same command again")

    def replace(self, replica: int, death: Exception) -> None:
        """Put a new actor in the place of a dead one, unless a call before this one already did."""
        try:
            self.get(self.replicas[replica].describe.remote(), replica, "describe", self.timeout_s)
            return
        except DEATHS:
            pass
        began = time.monotonic()
        with self._making:
            if self.closed:
                raise self.ended() from death
            self._say(f"{self.name}-{replica} died: starting it again")
            self.replicas[replica] = self._make(replica)
        try:
            where = self.get(self.replicas[replica].describe.remote(), replica, "describe", self._start_timeout_s)
            self._say(f"{self.name}-{replica} is back on {where['address']} after {time.monotonic() - began:.0f} s")
            # Before it gets work: a replica that holds no adapter must not answer for one.
            if self._set_up is not None:
                self._set_up(self.replicas[replica])
        except DEATHS as again:
            raise ActorFailedError(
                f"{self.name}-{replica} died and its replacement died too",
                reason(again),
                f"see logs/{self.name}-{replica}.log; the run can be resumed",
            ) from death


@dataclass(slots=True)
class _Work(Generic[T]):
    """An item that a replica still has to answer, or is answering."""

    item: T
    tries: int = 0


@dataclass(slots=True)
class _Call(Generic[T]):
    """An item on its way through a replica."""

    work: _Work[T]
    replica: int
    started: float


class _Map(Generic[T, R, H]):
    """One `Pool.map` under way: the items still to come, those that wait for a replica, and the calls in flight."""

    def __init__(self, pool: Pool[H], what: str, ask: Callable[[H, T], ObjectRef[R]], items: Iterable[T]) -> None:
        self._pool, self._what, self._ask = pool, what, ask
        self._source = Prefetch(items)
        self._waiting: deque[_Work[T]] = deque()
        self._calls: dict[ObjectRef[R], _Call[T]] = {}

    def results(self) -> Iterator[tuple[T, R]]:
        """Items with their answers, until all are answered or the pool is closed."""
        while not self._pool.closed and not self._done:
            self._fill()
            if not self._calls:
                continue
            # While items may still come, look often: a replica may be free for one.
            for ref in first_done(list(self._calls), 0.05 if not self._source.exhausted else POLL_S):
                yield from self._collect(ref, self._calls.pop(ref))
            self._check_overdue()
        if self._pool.closed:
            raise self._pool.ended()

    def stop(self, wait_s: float = 0) -> None:
        """Read no further; the thread that reads gets `wait_s` to end."""
        self._source.close(wait_s)

    @property
    def _done(self) -> bool:
        return self._source.exhausted and not self._waiting and not self._calls

    def _fill(self) -> None:
        """Give the least busy replicas work, as long as there is some and they may have more."""
        replicas = self._pool.replicas
        loads = [0] * len(replicas)
        for call in self._calls.values():
            loads[call.replica] += 1
        while min(loads) < self._pool.in_flight:
            if not self._waiting:
                # Nothing in flight means nothing else to wait for, so block for the next item.
                item = self._source.take(block=not self._calls)
                if item is NOT_READY:
                    return
                self._waiting.append(_Work(item))
            work = self._waiting.popleft()
            work.tries += 1
            replica = loads.index(min(loads))
            self._calls[self._ask(replicas[replica], work.item)] = _Call(work, replica, time.monotonic())
            loads[replica] += 1

    def _collect(self, ref: ObjectRef[R], call: _Call[T]) -> Iterator[tuple[T, R]]:
        pool = self._pool
        try:
            result = pool.get(ref, call.replica, self._what, pool.timeout_s)
        except DEATHS as death:
            if call.work.tries >= MAX_TRIES:
                raise ActorFailedError(
                    f"{pool.name}-{call.replica}.{self._what} died {call.work.tries} times on {_name(call.work.item)}",
                    reason(death),
                    f"see logs/{pool.name}-{call.replica}.log; the run can be resumed",
                ) from death
            pool.replace(call.replica, death)
            # First in line: what waits for this item has waited longest.
            self._waiting.appendleft(call.work)
            return
        yield call.work.item, result

    def _check_overdue(self) -> None:
        pool, now = self._pool, time.monotonic()
        for call in self._calls.values():
            if now - call.started > pool.timeout_s * pool.in_flight:
                raise StageTimeoutError(
                    f"{pool.name}-{call.replica}.{self._what} gave no answer for {_name(call.work.item)} "
                    f"in {now - call.started:.0f} s",
                    "the replica hangs, or the limit is too short for this model",
                    f"see logs/{pool.name}-{call.replica}.log, or raise the limit under `limits`",
                )


def _name(item: Any) -> str:
    shard = getattr(item, "shard", item)
    return f"shard {shard.index}" if hasattr(shard, "index") and not callable(shard.index) else repr(item)[:80]
