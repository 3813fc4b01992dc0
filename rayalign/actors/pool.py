"""A pool of replicas of one actor: dispatch with a bounded number in flight, retry, replace, time out, name all.

One shard is one call. A shard whose replica died goes to another replica; a dead replica is replaced and set up
again before it gets work. What an actor's method raises itself is not retried: it would raise again.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, ObjectLostError, RayActorError, RayTaskError

from rayalign.actors.prefetch import NOT_READY, Prefetch
from rayalign.errors import ActorFailedError, StageTimeoutError

Say = Callable[[str], None]
"""Tells the user one line."""

MAX_TRIES = 3
CLOSE_TIMEOUT_S = 5
DEATHS = (RayActorError, ObjectLostError)
"""The replica died, or its node did with a result that nobody had fetched yet."""


@dataclass
class _Call:
    item: Any
    replica: int
    started: float
    tries: int = 1


@dataclass
class _Waiting:
    item: Any
    tries: int = 0
    failures: list[str] = field(default_factory=list)


class Pool:
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
        make: Callable[[int], Any],
        size: int,
        *,
        timeout_s: float,
        start_timeout_s: float,
        say: Say,
        in_flight: int = 2,
        set_up: Callable[[Any], None] | None = None,
    ) -> None:
        self.name = name
        self._make = make
        self._in_flight = in_flight
        self._timeout_s = timeout_s
        self._start_timeout_s = start_timeout_s
        self._say = say
        self._set_up = set_up
        self._sources: list[Prefetch] = []
        self._closed = False
        self._making = threading.Lock()
        self.replicas = [make(i) for i in range(size)]

    def ready(self) -> list[dict[str, Any]]:
        """Wait until every replica answers `describe`; returns their descriptions."""
        return self.broadcast("describe", timeout_s=self._start_timeout_s)

    def broadcast(self, method: str, *args: Any, timeout_s: float | None = None) -> list[Any]:
        """Call a method on every replica; a dead replica is replaced once and asked again."""
        limit = timeout_s or self._timeout_s
        refs = [getattr(replica, method).remote(*args) for replica in self.replicas]
        results = []
        for i, ref in enumerate(refs):
            try:
                results.append(self._get(ref, i, method, limit))
            except DEATHS as death:
                self._replace(i, death)
                results.append(self._get(getattr(self.replicas[i], method).remote(*args), i, method, limit))
        return results

    def map(self, method: str, items: Iterable[Any], args: Callable[[Any], tuple[Any, ...]]) -> Iterator[Any]:
        """Results of `method(*args(item))` as (item, result), in the order they finish.

        `items` is read ahead in a thread, so that an iterator that waits for another pool does not hold this one up.
        """
        source = Prefetch(items)
        self._sources.append(source)
        waiting: deque[_Waiting] = deque()
        calls: dict[Any, _Call] = {}
        try:
            while not self._closed and not (source.exhausted and not waiting and not calls):
                self._fill(method, source, waiting, calls, args)
                if not calls:
                    continue
                done, _ = ray.wait(list(calls), timeout=0.05 if not source.exhausted else 1.0)
                for ref in done:
                    yield from self._collect(ref, calls.pop(ref), method, waiting)
                self._check_overdue(calls, method)
            if self._closed:
                raise self._ended()
        finally:
            source.close()
            self._sources.remove(source)

    def close(self) -> None:
        """Let every replica tidy up, then end it; a `map` that is under way in another thread ends too."""
        with self._making:
            self._closed = True
        farewells = [replica.close.remote() for replica in self.replicas]
        ray.wait(farewells, num_returns=len(farewells), timeout=CLOSE_TIMEOUT_S)
        for replica in self.replicas:
            ray.kill(replica)
        # A thread that still reads for this pool must not meet a Ray that is shutting down.
        for source in list(self._sources):
            source.close(wait_s=CLOSE_TIMEOUT_S)

    def _fill(
        self, method: str, source: Prefetch, waiting: deque[_Waiting], calls: dict[Any, _Call], args: Callable[..., Any]
    ) -> None:
        loads = [0] * len(self.replicas)
        for call in calls.values():
            loads[call.replica] += 1
        while min(loads) < self._in_flight:
            if not waiting:
                # Nothing in flight means nothing else to wait for, so block for the next item.
                item = source.take(block=not calls)
                if item is NOT_READY:
                    return
                waiting.append(_Waiting(item))
            work = waiting.popleft()
            replica = loads.index(min(loads))
            ref = getattr(self.replicas[replica], method).remote(*args(work.item))
            calls[ref] = _Call(work.item, replica, time.monotonic(), work.tries + 1)
            loads[replica] += 1

    def _collect(self, ref: Any, call: _Call, method: str, waiting: deque[_Waiting]) -> Iterator[Any]:
        try:
            result = self._get(ref, call.replica, method, self._timeout_s)
        except DEATHS as death:
            if call.tries >= MAX_TRIES:
                raise ActorFailedError(
                    f"{self.name}-{call.replica}.{method} died {call.tries} times on {_name(call.item)}",
                    str(death).splitlines()[0],
                    f"see logs/{self.name}-{call.replica}.log; the run can be resumed",
                ) from death
            self._replace(call.replica, death)
            waiting.appendleft(_Waiting(call.item, call.tries))
            return
        yield call.item, result

    def _get(self, ref: Any, replica: int, method: str, timeout_s: float) -> Any:
        try:
            return ray.get(ref, timeout=timeout_s)
        except GetTimeoutError:
            raise StageTimeoutError(
                f"{self.name}-{replica}.{method} gave no answer in {timeout_s:g} s",
                "the replica hangs, or the limit is too short for this model",
                f"see logs/{self.name}-{replica}.log, or raise the limit under `limits`; the run can be resumed",
            ) from None
        except RayTaskError as error:
            raise (error.cause if isinstance(error.cause, Exception) else error) from error

    def _check_overdue(self, calls: dict[Any, _Call], method: str) -> None:
        now = time.monotonic()
        for call in calls.values():
            if now - call.started > self._timeout_s * self._in_flight:
                raise StageTimeoutError(
                    f"{self.name}-{call.replica}.{method} gave no answer for {_name(call.item)} "
                    f"in {now - call.started:.0f} s",
                    "the replica hangs, or the limit is too short for this model",
                    f"see logs/{self.name}-{call.replica}.log, or raise the limit under `limits`",
                )

    def _ended(self) -> ActorFailedError:
        return ActorFailedError(f"the {self.name} pool is closed", "its run is ending", "run the same command again")

    def _replace(self, replica: int, death: Exception) -> None:
        """Put a new actor in the place of a dead one, unless a call before this one already did."""
        try:
            self._get(self.replicas[replica].describe.remote(), replica, "describe", self._timeout_s)
            return
        except DEATHS:
            pass
        began = time.monotonic()
        with self._making:
            if self._closed:
                raise self._ended() from death
            self._say(f"{self.name}-{replica} died: starting it again")
            self.replicas[replica] = self._make(replica)
        try:
            where = self._get(self.replicas[replica].describe.remote(), replica, "describe", self._start_timeout_s)
            self._say(f"{self.name}-{replica} is back on {where['address']} after {time.monotonic() - began:.0f} s")
            if self._set_up is not None:
                self._set_up(self.replicas[replica])
        except DEATHS as again:
            raise ActorFailedError(
                f"{self.name}-{replica} died and its replacement died too",
                str(again).splitlines()[0],
                f"see logs/{self.name}-{replica}.log; the run can be resumed",
            ) from death


def _name(item: Any) -> str:
    shard = getattr(item, "shard", item)
    return f"shard {shard.index}" if hasattr(shard, "index") and not callable(shard.index) else repr(item)[:80]
