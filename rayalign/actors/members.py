"""The replicas of a pool: asked for, let in once they have shown what they must, lost, asked for again, sent away.

    asked for ──describe──► what the pool wants shown ──► ready ──a call dies──► asked whether it lives ─┐
        ▲                                                  │                                             │
        └──── another is made ◄── it died ◄────────────────┼─────────────────────────────────────────────┘
        │──── another is made ◄── its calls are answered ◄─┤ its node is to go
        └──── there is work again ◄── away ◄── idle ───────┘

Nobody waits here for one replica: `entering` gives what all that are on their way in wait for, and whoever waits for
calls waits for that too and hands in what is done.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from ray import ObjectRef
from ray.exceptions import ObjectLostError, RayActorError, RayError

from rayalign.actors.handles import Replica, answer_of, end, reason
from rayalign.errors import ActorFailedError, StageTimeoutError
from rayalign.records import JsonObject

Say = Callable[[str], None]
"""Tells the user one line."""
Note = Callable[..., None]
"""Takes the name of an event and its fields, for the log of the run."""
Entry = Generator[ObjectRef[Any], Any, None]
"""What a replica has to answer before it gets work: yields the calls one by one and is sent their answers."""

MAX_STARTS = 2
"""Starts of a replica that may fail in a row."""
DEATHS = (RayActorError, ObjectLostError)
"""The replica died, or its node did with a result that nobody had fetched yet."""

H = TypeVar("H", bound=Replica)


@dataclass(slots=True, eq=False)
class Member(Generic[H]):
    """One place of a pool, and the replica that fills it."""

    index: int
    handle: H | None = None
    ready: bool = False
    described: JsonObject = field(default_factory=dict)
    """What it said of itself when it came in."""
    began: float = 0.0
    """When its entry began, by the monotonic clock."""
    doubted: bool = False
    """One of its calls died: it is asked whether it lives."""
    failures: int = 0
    """Starts that failed since it was last ready."""
    calls: int = 0
    """Items that it has."""
    leaving: bool = False
    """Its node is about to go: it answers what it has, and another takes its place."""
    entry: Generator[ObjectRef[Any], Any, JsonObject] | None = None


class Members(Generic[H]):
    """All places of a pool. Methods may be called from several threads.

    Args:
        name: what messages call the pool; replica i is `<name>-<i>`.
        make: makes replica i and returns its handle.
        least: replicas that the pool needs.
        most: replicas that it asks for.
        start_timeout_s: how long it may be without any replica, or at the start with fewer than `least`.
        say: told when a replica is lost, or comes late.
        note: told of every replica that joins, is lost or is sent away.
        entry: what a replica must answer, after `describe`, before it gets work.
        waits_for: what the cluster still has to bring, for messages.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[int], H],
        least: int,
        most: int,
        *,
        start_timeout_s: float,
        say: Say,
        note: Note,
        entry: Callable[[H], Entry] | None,
        waits_for: Callable[[], str] = str,
    ) -> None:
        self.name = name
        self.least = least
        self.closed = False
        self._make, self._say, self._note = make, say, note
        self._entry, self._waits_for = entry, waits_for
        self._start_timeout_s = start_timeout_s
        self._lock = threading.RLock()
        self._entering: dict[ObjectRef[Any], Member[H]] = {}
        self._empty_since: float | None = time.monotonic()
        self._started = False
        self.places: list[Member[H]] = [Member(i) for i in range(most)]
        self.ready: Sequence[Member[H]] = ()
        """Those that may get work; another list whenever they change."""
        self.grow()

    @property
    def entering(self) -> list[ObjectRef[Any]]:
        """What the others wait for."""
        return list(self._entering)

    def grow(self) -> None:
        """Ask for every replica that is away."""
        with self._lock:
            for member in self.places:
                if member.handle is None and not self.closed:
                    member.failures = 0
                    self._start(member)

    def shrink(self, still: Callable[[], bool]) -> None:
        """Send away what is more than the pool needs, those on their way in first; `grow` asks for them again.

        Args:
            still: whether that is to be done, asked when nobody can grow the pool any more.
        """
        with self._lock:
            if self.closed or not still():
                return
            here = [member for member in self.places if member.handle is not None]
            for member in sorted(here, key=lambda member: (member.ready, -member.index))[: len(here) - self.least]:
                self._away(member)

    def settle(self, ref: ObjectRef[Any]) -> None:
        """Take in an answer that a replica on its way in waited for.

        Raises:
            ActorFailedError: the replica cannot be started, and without it there are too few.
            Exception: what its constructor raised, if that is one of ours, or what the pool found wrong with it.
        """
        with self._lock:
            member = self._entering.pop(ref, None)
            # Another thread may have been faster, or the replica sent away.
            if member is None or member.entry is None or self.closed:
                return
            try:
                answer = answer_of(ref)
            except DEATHS as death:
                self._gone(member, death)
                return
            try:
                self._entering[member.entry.send(answer)] = member
            except StopIteration as done:
                self._let_in(member, done.value)

    def lost(self, member: Member[H], handle: H, death: RayError) -> None:
        """A call of a replica died: it gets no more work until it has answered again, or another in its place."""
        with self._lock:
            if self.closed:
                raise self.ended() from death
            if member.handle is handle and member.ready:
                member.doubted = True
                self._tell(member, "lost")
                self._enter(member)
                if not self.ready:
                    self._empty_since = time.monotonic()

    def busy(self, member: Member[H], change: int) -> None:
        """Take in that a replica has so many items more; one that leaves and has none left is replaced."""
        with self._lock:
            member.calls += change
            self._replace_left(member)

    def drain(self, nodes: Collection[str]) -> None:
        """Give no more work to replicas on nodes that are about to go; those that have none left are replaced."""
        with self._lock:
            for member in self.places:
                if member.ready and member.described.get("node_id") in nodes:
                    member.leaving = True
                    self._set_ready(member, False)
                    self._say(f"{self.name}-{member.index} leaves: its node {member.described['address']} is to go")
                    self._tell(member, "draining")
                    self._replace_left(member)
            if not self.ready and self._empty_since is None:
                self._empty_since = time.monotonic()

    def check(self) -> None:
        """
        Raises:
            StageTimeoutError: there has been no replica for too long.
        """
        since = self._empty_since
        if since is not None and time.monotonic() - since > self._start_timeout_s:
            raise self.too_few(1)

    def close(self) -> list[H]:
        """Start nothing more; returns the handles of those that are ready, the others are ended."""
        with self._lock:
            self.closed = True
            ready = [member.handle for member in self.ready if member.handle is not None]
            for member in self.places:
                if member.handle is not None and not member.ready:
                    end(member.handle)
            return ready

    def ended(self) -> ActorFailedError:
        """What is raised where the pool is closed while it is used."""
        return ActorFailedError(f"the {self.name} pool is closed", "its run is ending", "run the same command again")

    def too_few(self, needed: int) -> StageTimeoutError:
        """What is raised where replicas do not come."""
        wanted = self._waits_for()
        return StageTimeoutError(
            f"{len(self.ready)} of {needed} {self.name} replicas are there after {self._start_timeout_s:g} s",
            f"the cluster was asked for {wanted}" if wanted else "loading takes longer, or a replica hangs",
            f"see logs/{self.name}-*.log and `ray status`, or raise limits.start_timeout_s; the run can be resumed",
        )

    def _replace_left(self, member: Member[H]) -> None:
        if member.leaving and not member.calls and not self.closed:
            assert member.handle is not None
            end(member.handle)
            self._start(member)

    def _start(self, member: Member[H]) -> None:
        member.handle = self._make(member.index)
        member.doubted = member.leaving = False
        self._enter(member)

    def _enter(self, member: Member[H]) -> None:
        member.began = time.monotonic()
        self._set_ready(member, False)
        assert member.handle is not None
        member.entry = self._whole_entry(member.handle)
        self._entering[next(member.entry)] = member

    def _whole_entry(self, handle: H) -> Generator[ObjectRef[Any], Any, JsonObject]:
        described = yield handle.describe.remote()
        if self._entry is not None:
            yield from self._entry(handle)
        return described

    def _let_in(self, member: Member[H], described: JsonObject) -> None:
        late = self._started and not member.doubted
        member.described, member.entry = described, None
        self._set_ready(member, True)
        member.doubted, member.failures = False, 0
        self._empty_since = None
        self._started = self._started or len(self.ready) >= self.least
        took = time.monotonic() - member.began
        self._tell(member, "joined", address=described["address"], seconds=round(took, 3))
        if late:
            where = described["address"]
            self._say(f"{self.name}-{member.index} joins from {where} after {took:.0f} s")

    def _gone(self, member: Member[H], death: RayError) -> None:
        """A replica on its way in died. One that had been ready may have gone with its node, and the first in its place
        too: until Ray has noticed, it starts actors there."""
        member.failures += not member.doubted
        if member.failures < MAX_STARTS:
            self._say(f"{self.name}-{member.index} died: starting it again")
            self._start(member)
            return
        if sum(other.handle is not None for other in self.places) <= self.least:
            raise ActorFailedError(
                f"{self.name}-{member.index} died and its replacement died too",
                reason(death),
                f"see logs/{self.name}-{member.index}.log; the run can be resumed",
            ) from death
        self._say(f"{self.name}-{member.index} died and its replacement died too: going on with the others")
        self._away(member)

    def _away(self, member: Member[H]) -> None:
        self._entering = {ref: other for ref, other in self._entering.items() if other is not member}
        self._tell(member, "sent away")
        if member.handle is not None:
            end(member.handle)
        member.handle, member.entry = None, None
        self._set_ready(member, False)

    def _set_ready(self, member: Member[H], ready: bool) -> None:
        if member.ready != ready:
            member.ready = ready
            self.ready = [one for one in self.places if one.ready]

    def _tell(self, member: Member[H], state: str, **fields: object) -> None:
        self._note("replica", name=f"{self.name}-{member.index}", state=state, **fields)
