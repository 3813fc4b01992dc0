"""One `Pool.map` under way: which replica gets which item, and what becomes of its answer or of its death."""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ray import ObjectRef
from ray.exceptions import RayError

from rayalign.actors.handles import Replica, answer_of, by_node, first_done, reason
from rayalign.actors.members import DEATHS, Member
from rayalign.actors.pool_use import PoolUse
from rayalign.actors.prefetch import NOT_READY, Prefetch
from rayalign.errors import ActorFailedError, StageTimeoutError
from rayalign.records import JsonObject
from rayalign.stopping import POLL_S

if TYPE_CHECKING:
    from rayalign.actors.pool import Pool

SUSPECT_DEATHS, MOST_DEATHS = 2, 4
"""Of replicas that had the same item: from so many on it is kept apart from others that had as many; the last time it
is alone on its replica, and where that dies too, it is set aside, or the run ends."""
CHECK_S = 1.0
"""How often calls are looked through for those that take too long."""
LOOK_S = 0.05
"""How soon a free replica gets an item that has just come."""

T = TypeVar("T")
R = TypeVar("R")
H = TypeVar("H", bound=Replica)


@dataclass(slots=True)
class _Work(Generic[T]):
    """An item that a replica still has to answer, or is answering."""

    item: T
    deaths: int = 0
    """Of replicas that had it."""

    @property
    def suspect(self) -> bool:
        """Whether it may be what they died of."""
        return self.deaths >= SUSPECT_DEATHS

    @property
    def alone(self) -> bool:
        """Whether nothing else may be beside it."""
        return self.deaths >= MOST_DEATHS - 1


@dataclass(slots=True)
class _Call(Generic[T, H]):
    """An item on its way through a replica."""

    work: _Work[T]
    member: Member[H]
    handle: H
    started: float
    room: int
    """How many calls the replica could have at once."""


class PoolMap(Generic[T, R, H]):
    """The items still to come, those that wait for a replica, and the calls in flight."""

    def __init__(
        self,
        pool: Pool[H],
        what: str,
        ask: Callable[[H, T], ObjectRef[R]],
        items: Iterable[T],
        in_flight: Callable[[JsonObject], int],
        spare: Callable[[T], R] | None = None,
    ) -> None:
        self._pool, self._what, self._ask, self._in_flight, self._spare = pool, what, ask, in_flight, spare
        self._source = Prefetch(items)
        self._waiting: deque[_Work[T]] = deque()
        self._suspects: deque[_Work[T]] = deque()
        """Such items, which wait for a replica that has none of them."""
        self._suspected: set[int] = set()
        """The replicas that have one."""
        self._closed: set[int] = set()
        """Those that get nothing else: an item is alone there, or is to be once they have answered all."""
        self._calls: dict[ObjectRef[R], _Call[T, H]] = {}
        self._loads: dict[int, int] = {}
        """How many of the calls each replica has, of those that have any."""
        self._ready: Sequence[Member[H]] = ()
        """The replicas as they were when it was last looked how many calls each may have, which `_rooms` says."""
        self._rooms: dict[int, int] = {}
        self._free: list[tuple[int, int]] = []
        """A heap of what each has beyond that, and who; what is no more so is passed over."""
        self._refreshed = 0.0
        self._checked = 0.0
        """When calls were last looked through for those that take too long."""
        self._heard: dict[int, float] = {}
        """When a replica last answered."""
        self._use = PoolUse()
        self._seen = (0, 0, 0)
        """Replicas that are ready, those of them with calls, and the calls, as they were last told."""

    def results(self) -> Iterator[tuple[T, R]]:
        """Items with their answers, until all are answered or the pool is closed."""
        members = self._pool.members
        while not self._pool.closed and not self._done:
            self._fill()
            self._look()
            if waits := [*self._calls, *members.entering]:
                # While items may still come, look often: a replica may be free for one.
                for ref in first_done(waits, LOOK_S if not self._source.exhausted else POLL_S):
                    if ref in self._calls:
                        yield from self._collect(ref, self._taken(ref))
                    else:
                        members.settle(ref)
            self._check_overdue()
        if self._pool.closed:
            raise members.ended()
        self._look()
        use = {"replicas": self._use.most, "utilisation": round(self._use.share, 4)}
        self._pool.note("pool", name=self._pool.name, what=self._what, **use)

    def _look(self) -> None:
        """Note how busy the pool is."""
        busy, there = len(self._loads), len(self._pool.members.ready)
        self._use.note(busy, there, self._more)
        if (seen := (there, min(busy, there), len(self._calls))) != self._seen:
            self._seen = seen
            self._pool.watch(self._pool.name, *seen)

    def stop(self, wait_s: float = 0) -> None:
        """Read no further; the thread that reads gets `wait_s` to end."""
        self._source.close(wait_s)

    def leave(self) -> None:
        """Nobody reads on: its replicas have no more calls of it."""
        while self._calls:
            _, call = self._calls.popitem()
            self._pool.members.busy(call.member, -1)

    @property
    def _more(self) -> bool:
        return not self._source.exhausted or bool(self._waiting) or bool(self._suspects)

    @property
    def _done(self) -> bool:
        return not self._more and not self._calls

    def _fill(self) -> None:
        """Give the least busy replicas work, as long as there is some and they may have more."""
        self._refresh()
        self._send_suspects()
        while (member := self._freest()) is not None:
            if not self._waiting:
                # Nothing under way means nothing else to wait for, so block for the next item.
                waits = self._calls or self._suspects or self._pool.members.entering
                item = self._source.take(block=not waits)
                if item is NOT_READY:
                    return
                self._waiting.append(_Work(item))
            self._send(self._waiting.popleft(), member)

    def _send_suspects(self) -> None:
        """One to a replica: the next death tells what kills them from what was only there."""
        for work in list(self._suspects):
            members = [self._pool.members.places[index] for index in self._rooms if index not in self._suspected]
            ready = [member for member in members if member.ready]
            if work.alone:
                # One that comes in another's place has nothing yet; to empty one takes its longest answer.
                ready.sort(key=lambda one: (self._loads.get(one.index, 0), one.index not in self._closed))
                free = [one for one in ready[:1] if not self._loads.get(one.index)]
                if free or not (self._pool.members.entering or self._closed - self._suspected):
                    self._closed |= {one.index for one in ready[:1]}
            else:
                free = [one for one in ready if self._over(one.index) < 0]
            if free:
                member = min(free, key=lambda one: self._over(one.index))
                self._suspected.add(member.index)
                self._suspects.remove(work)
                self._send(work, member)

    def _refresh(self) -> None:
        """See who is ready, and how many calls each may have, where that may have changed."""
        now = time.monotonic()
        if self._pool.members.ready is self._ready and now - self._refreshed < CHECK_S:
            return
        self._pool.drain()
        ready = self._pool.members.ready
        self._ready, self._refreshed = ready, now
        self._rooms = {member.index: self._in_flight(member.described) for member in ready}
        self._free = [(self._loads.get(index, 0) - room, index) for index, room in self._rooms.items()]
        heapq.heapify(self._free)

    def _freest(self) -> Member[H] | None:
        """Who may have most calls more, and of equals the first one; None where nobody may have any."""
        while self._free:
            over, index = self._free[0]
            member = self._pool.members.places[index]
            if over < 0 and over == self._over(index) and member.ready:
                return member
            heapq.heappop(self._free)
        return None

    def _over(self, index: int) -> int:
        """How many calls a replica has beyond those that it may have."""
        return 0 if index in self._closed else self._loads.get(index, 0) - self._rooms[index]

    def _load(self, member: Member[H], change: int) -> None:
        index = member.index
        self._pool.members.busy(member, change)
        if load := self._loads.pop(index, 0) + change:
            self._loads[index] = load
        if member.ready:
            self._rooms[index] = self._in_flight(member.described)
            heapq.heappush(self._free, (self._over(index), index))

    def _send(self, work: _Work[T], member: Member[H]) -> None:
        handle = member.handle
        assert handle is not None
        call = _Call(work, member, handle, time.monotonic(), self._rooms[member.index])
        self._calls[self._ask(handle, work.item)] = call
        self._load(member, 1)

    def _taken(self, ref: ObjectRef[R]) -> _Call[T, H]:
        """A call that is done, and no more its replica's."""
        call = self._calls.pop(ref)
        if call.work.suspect:
            self._suspected.discard(call.member.index)
            self._closed.discard(call.member.index)
        self._load(call.member, -1)
        return call

    def _collect(self, ref: ObjectRef[R], call: _Call[T, H]) -> Iterator[tuple[T, R]]:
        try:
            result = answer_of(ref)
        except DEATHS as death:
            if self._died(call, death):
                assert self._spare is not None
                yield call.work.item, self._spare(call.work.item)
            return
        self._heard[call.member.index] = time.monotonic()
        yield call.work.item, result

    def _died(self, call: _Call[T, H], death: RayError) -> bool:
        """Have another replica answer, first of all: what waits for this item has waited longest. Or set it aside,
        where too many have died of it; whether that is done."""
        work, name = call.work, f"{self._pool.name}-{call.member.index}"
        work.deaths += not by_node(death)
        aside = False
        if work.deaths >= MOST_DEATHS:
            aside = self._spare is not None and self._pool.may_spare(self._what, _name(work.item))
            if not aside:
                raise ActorFailedError(
                    f"{name}.{self._what} died {work.deaths} times on {_name(work.item)}",
                    reason(death),
                    f"see logs/{name}.log; the run can be resumed",
                ) from death
        self._pool.members.lost(call.member, call.handle, death)
        if not aside:
            (self._suspects if work.suspect else self._waiting).appendleft(work)
        return aside

    def _check_overdue(self) -> None:
        """A replica's calls wait for each other: it may take the limit once for each of them, but after the limit's
        time twice one of them is to be there."""
        now, limit_s = time.monotonic(), self._pool.timeout_s
        if not self._calls:
            self._pool.members.check()
        if now - self._checked < min(CHECK_S, limit_s / 10):
            return
        self._checked = now
        for call in self._calls.values():
            quiet = now - max(call.started, self._heard.get(call.member.index, 0.0))
            if now - call.started > limit_s * call.room or quiet > limit_s * min(call.room, 2):
                name = f"{self._pool.name}-{call.member.index}"
                raise StageTimeoutError(
                    f"{name}.{self._what} gave no answer for {_name(call.work.item)} in {now - call.started:.0f} s",
                    "the replica hangs, or the limit is too short for this model",
                    f"see logs/{name}.log, or raise the limit under `limits`",
                )


def _name(item: Any) -> str:
    shard = getattr(item, "shard", item)
    return f"shard {shard.index}" if hasattr(shard, "index") and not callable(shard.index) else repr(item)[:80]
