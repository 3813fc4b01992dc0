"""A pool of replicas of one actor: all of them asked at once, or items dispatched to whoever has room.

All of a pool's replicas are asked for when it is made, which is the demand that a cluster's autoscaler sees; work
begins with `least` of them, and the others join whenever they come (`members.py`). A lost replica's items go to
others, and another replica is asked for in its place, which nobody waits for as long as one is left. Items that
were on two of the dead are kept apart, so that what kills them is told from what was beside it.

Who waits for whom, where the scorers' pool works on what the generators' pool gives:

    loop ──next()──► scorers' map ──ray.wait()──► calls on scorer-0, scorer-1, ..., and the start of scorer-2
                          ▲ take()
                     a queue of a few ◄── thread ──next()──► generators' map ──ray.wait()──► calls on generator-0, ...
                                                                  ▲ take()
                                                             a queue of a few ◄── thread ──next()──► shards

    A map waits for its calls and for replicas on their way in, and for its next item only while there is neither; so
    neither pool holds the other up. Nobody waits for the loop: a full queue holds the thread behind it back.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import ray
from ray import ObjectRef
from ray.exceptions import GetTimeoutError, RayError

from rayalign.actors.handles import Replica, answer_of, await_done, end, first_done, reason
from rayalign.actors.members import DEATHS, Entry, Member, Members, Note, Say
from rayalign.actors.pool_map import PoolMap
from rayalign.actors.ray_metrics import Watch, unwatched
from rayalign.errors import ActorFailedError, StageTimeoutError
from rayalign.records import JsonObject
from rayalign.stopping import POLL_S, asked

CLOSE_TIMEOUT_S = 5
STOP_TIMEOUT_S = 1
IN_FLIGHT = 2
MAX_TRIES = 3
"""Of a call to all replicas, of which each time all die."""

T = TypeVar("T")
R = TypeVar("R")
H = TypeVar("H", bound=Replica)


def ignore(*_: object, **__: object) -> None:
    """The log of nobody."""


class Pool(Generic[H]):
    """Replicas of an actor.

    Args:
        name: what messages call it; replica i is `<name>-<i>`.
        make: makes replica i and returns its handle.
        least: replicas with which work begins.
        most: replicas that are asked for; null for no more.
        timeout_s: limit of one call, from its dispatch.
        start_timeout_s: how long the pool waits where it cannot work: for a node and for the start of a replica.
        say: told when a replica is lost, or comes late.
        note: told the same and more, for the log of the run.
        entry: what a replica has to answer, after `describe`, before it gets work.
        idle_s: replicas beyond `least` are sent away when the pool had no items for so long; null keeps them.
        waits_for: what the cluster still has to bring, for messages.
        watch: told how busy the pool is, whenever that changes.
        draining: the nodes that are about to go.
        poisoned: items that may be set aside because replicas died of them; one more ends the run.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[int], H],
        least: int,
        most: int | None = None,
        *,
        timeout_s: float,
        start_timeout_s: float,
        say: Say,
        note: Note = ignore,
        entry: Callable[[H], Entry] | None = None,
        idle_s: float | None = None,
        waits_for: Callable[[], str] = str,
        watch: Watch = unwatched,
        draining: Callable[[], Collection[str]] = tuple,
        poisoned: int = 0,
    ) -> None:
        self.name = name
        self._say, self._may_spare, self._draining = say, poisoned, draining
        self.timeout_s = timeout_s
        self.watch = watch
        self._start_timeout_s, self._idle_s = start_timeout_s, idle_s
        self._maps: list[PoolMap[Any, Any, H]] = []
        self._idle: threading.Timer | None = None
        self.note = note
        self.members = Members(
            name,
            make,
            least,
            most or least,
            start_timeout_s=start_timeout_s,
            say=say,
            note=note,
            entry=entry,
            waits_for=waits_for,
        )

    @property
    def replicas(self) -> list[H]:
        """Those that may get work."""
        return [member.handle for member in self.members.ready if member.handle is not None]

    @property
    def closed(self) -> bool:
        return self.members.closed

    def ready(self) -> list[JsonObject]:
        """Wait until there are as many replicas as the pool needs; returns the descriptions of all that are ready."""
        deadline = time.monotonic() + self._start_timeout_s
        while len(self.members.ready) < self.members.least:
            if time.monotonic() > deadline:
                raise self.members.too_few(self.members.least)
            self._look(POLL_S)
        return [member.described for member in self.members.ready]

    def broadcast(self, what: str, ask: Callable[[H], ObjectRef[R]], *, timeout_s: float | None = None) -> dict[str, R]:
        """The answers of all replicas that are ready, by name. Where all of them die, it waits for others.

        Args:
            what: the method's name, for messages.
        """
        last: RayError | None = None
        for _ in range(MAX_TRIES):
            calls = [(member, member.handle, ask(member.handle)) for member in self._some() if member.handle]
            answers: dict[str, R] = {}
            for member, handle, ref in calls:
                try:
                    answers[f"{self.name}-{member.index}"] = self.get(ref, member.index, what, timeout_s)
                except DEATHS as death:
                    last = death
                    self.members.lost(member, handle, death)
            if answers:
                return answers
        raise ActorFailedError(
            f"every {self.name} replica died of {what}, {MAX_TRIES} times",
            reason(last) if last else "they were lost one after the other",
            f"see logs/{self.name}-*.log; the run can be resumed",
        ) from last

    def map(
        self,
        what: str,
        ask: Callable[[H, T], ObjectRef[R]],
        items: Iterable[T],
        in_flight: Callable[[JsonObject], int] = lambda _: IN_FLIGHT,
        spare: Callable[[T], R] | None = None,
    ) -> Iterator[tuple[T, R]]:
        """Every item with the answer to it, in the order in which answers come.

        Args:
            what: the method's name, for messages.
            items: read ahead in a thread, so that an iterator that waits for another pool does not hold this one up.
            in_flight: how many calls a replica may have at once, by what it said of itself.
            spare: what stands for the answer to an item that replicas die of; null where nothing can.
        """
        under_way = PoolMap(self, what, ask, items, in_flight, spare)
        self._maps.append(under_way)
        self._keep()
        try:
            yield from under_way.results()
        finally:
            under_way.stop()
            under_way.leave()
            self._maps.remove(under_way)
            self._rest()

    def drain(self) -> None:
        """Take in which nodes are about to go."""
        self.members.drain(self._draining())

    def may_spare(self, what: str, item: str) -> bool:
        """Whether one more item may be set aside, which then is said and counted."""
        if self._may_spare <= 0:
            return False
        self._may_spare -= 1
        self._say(f"{item} is set aside: one {self.name} after the other died of it")
        self.note("poisoned", name=self.name, what=what, item=item)
        return True

    def close(self) -> None:
        """Let every replica tidy up, then end it; a `map` that is under way in another thread ends too."""
        if self._idle is not None:
            self._idle.cancel()
        replicas = self.members.close()
        farewells = [replica.close.remote() for replica in replicas]
        if farewells:
            ray.wait(farewells, num_returns=len(farewells), timeout=STOP_TIMEOUT_S if asked() else CLOSE_TIMEOUT_S)
        for replica in replicas:
            end(replica)
        # A thread that still reads for this pool must not meet a Ray that is shutting down.
        for under_way in list(self._maps):
            under_way.stop(wait_s=STOP_TIMEOUT_S if asked() else CLOSE_TIMEOUT_S)

    def get(self, ref: ObjectRef[R], replica: int, what: str, timeout_s: float | None = None) -> R:
        """The answer of a replica.

        Raises:
            StageTimeoutError: it took too long.
            RayActorError, ObjectLostError: the replica died.
            Exception: what the method raised, and of ours what the constructor raised.
        """
        limit = timeout_s or self.timeout_s
        try:
            await_done(ref, limit)
        except GetTimeoutError:
            raise StageTimeoutError(
                f"{self.name}-{replica}.{what} gave no answer in {limit:g} s",
                "the replica hangs, or the limit is too short for this model",
                f"see logs/{self.name}-{replica}.log, or raise the limit under `limits`; the run can be resumed",
            ) from None
        return answer_of(ref)

    def _some(self) -> Sequence[Member[H]]:
        """All replicas that are ready, waiting for one where there is none."""
        self._look(0)
        while not self.members.ready:
            self._look(POLL_S)
            self.members.check()
        return self.members.ready

    def _look(self, timeout_s: float) -> None:
        """Let in who is there."""
        if self.closed:
            raise self.members.ended()
        while entering := self.members.entering:
            done = first_done(entering, timeout_s)
            if not done:
                return
            for ref in done:
                self.members.settle(ref)
            timeout_s = 0

    def _keep(self) -> None:
        """There is work: nobody is sent away, and who was is asked for again."""
        if self._idle is not None:
            self._idle.cancel()
        self.members.grow()

    def _rest(self) -> None:
        """There is no work any more."""
        if self._idle_s is not None and not self._maps and not self.closed:
            self._idle = threading.Timer(self._idle_s, self.members.shrink, [lambda: not self._maps])
            self._idle.daemon = True
            self._idle.start()
