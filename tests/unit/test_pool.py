"""Pools that grow, lose replicas and get others, on a made-up clock: nobody waits for a slow start."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from ray import ObjectRef
from ray.exceptions import RayActorError

from rayalign.actors.calls import CALL_ANSWERS, InFlight
from rayalign.errors import ActorFailedError, StageTimeoutError, SyncError
from tests.unit.virtual_pool import Clock, Engine, Replica, make_pool

SECONDS = 1.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def ask(replica: Any, item: int) -> Any:
    return replica.call(SECONDS, item)


class Placed(Replica):
    """Each on a node of its own."""

    def __init__(self, clock: Clock, index: int, number: int) -> None:
        super().__init__(clock, index, 0)
        self.number = number

    @property
    def describe(self) -> Any:
        said = {"address": f"10.0.0.{self.number}", "node_id": f"n{self.number}"}
        return SimpleNamespace(remote=lambda: self.ref(max(self.clock.now, self.from_s), said))


def longest_idle(replica: Replica) -> float:
    return max((end - begin for begin, end in replica.idle), default=0.0)


@pytest.mark.parametrize(("least", "most"), [(2, 2), (1, 2)])
def test_a_slow_replacement_is_waited_for_by_nobody(clock: Clock, least: int, most: int) -> None:
    """It takes 60 s where a call may take 10 s: the run goes on, the replica that lives is never idle, and the other
    works once it is there."""

    def start(i: int, before: int) -> Replica:
        return Replica(clock, i, 60 + 5 if before == 2 else 0, 5.5 if before == 1 else math.inf)

    events: list[dict[str, Any]] = []
    note = lambda event, **fields: events.append({"event": event, **fields})  # noqa: E731
    pool, made, said = make_pool(clock, start, least, most, note=note)
    pool.ready()
    answered = [answer for _, answer in pool.map("work", ask, range(200))]
    assert sorted(answered) == list(range(200))
    first, lost, late = made
    assert longest_idle(first) <= 1 and longest_idle(late) <= 1
    assert late.begun[0] == pytest.approx(65.5, abs=1)
    assert len(first.begun) > 100 and len(late.begun) > 40 and len(lost.begun) <= 8
    joined = [(one["name"], one["state"]) for one in events if one["event"] == "replica"]
    assert joined == [(f"fake-{i}", state) for i, state in ((0, "joined"), (1, "joined"), (1, "lost"), (1, "joined"))]
    assert events[-1].pop("utilisation") >= 0.9
    assert events[-1] == {"event": "pool", "name": "fake", "what": "work", "replicas": 2}
    assert said[-2:] == ["fake-1 died: starting it again", "fake-1 joins from node-1 after 60 s"]


def test_the_only_replica_is_waited_for_longer_than_a_call_may_take(clock: Clock) -> None:
    pool, _, _ = make_pool(clock, lambda i, n: Replica(clock, i, 70 * n, 3.5 if n == 0 else math.inf), 1)
    assert sorted(answer for _, answer in pool.map("work", ask, range(10))) == list(range(10))
    assert clock.now == pytest.approx(70 + 7, abs=1)


def test_replicas_join_in_the_middle_and_one_never_comes(clock: Clock) -> None:
    pool, made, _ = make_pool(clock, lambda i, _: Replica(clock, i, [0, 20, 40, math.inf][i]), 1, 4)
    assert [one["address"] for one in pool.ready()] == ["node-0"]
    assert sorted(answer for _, answer in pool.map("work", ask, range(200))) == list(range(200))
    assert [round(replica.begun[0]) for replica in made[:3]] == [0, 20, 40]
    assert max(longest_idle(replica) for replica in made) <= 1
    assert clock.now == pytest.approx(20 + 20 + (200 - 20 - 40) / 3, abs=3)
    assert pool.broadcast("ask", lambda replica: replica.call(1, "x")) == dict.fromkeys(
        ["fake-0", "fake-1", "fake-2"], "x"
    )


def test_a_pool_without_replicas_gives_up_after_the_start_limit(clock: Clock) -> None:
    pool, _, _ = make_pool(
        clock, lambda i, _: Replica(clock, i, math.inf), 2, 3, start_timeout_s=30, waits_for=lambda: "3 x {GPU: 1}"
    )
    with pytest.raises(StageTimeoutError, match=r"0 of 2 fake replicas are there after 30 s"):
        pool.ready()
    with pytest.raises(StageTimeoutError, match=r"3 x \{GPU: 1\}"):
        list(pool.map("work", ask, range(3)))
    assert clock.now < 35


def test_a_call_without_an_answer_ends_the_run(clock: Clock) -> None:
    pool, _, _ = make_pool(clock, lambda i, _: Replica(clock, i, 0), 1)
    with pytest.raises(StageTimeoutError, match=r"gave no answer for 0 in 2\d s"):
        list(pool.map("work", lambda replica, item: replica.call(99, item), [0]))


def test_a_start_that_fails_twice_ends_only_a_pool_that_needs_it(clock: Clock) -> None:
    def start(i: int, _: int) -> Replica:
        return Replica(clock, i, 5, math.inf if i == 0 else 2)

    pool, made, said = make_pool(clock, start, 1, 2)
    assert sorted(answer for _, answer in pool.map("work", ask, range(20))) == list(range(20))
    assert len(made) == 3 and said[-1].endswith("going on with the others")
    list(pool.map("work", ask, range(2)))
    assert len(made) == 5
    needed, _, _ = make_pool(clock, start, 2)
    with pytest.raises(ActorFailedError, match="fake-1 died and its replacement died too"):
        needed.ready()


def test_a_node_that_takes_the_first_replacement_with_it_is_no_failed_start(clock: Clock) -> None:
    """Ray starts it where the dead one was, as long as it takes the node for alive; the next one is elsewhere."""
    comes = [(0, math.inf), (0, 5), (math.inf, 17), (30, math.inf)]
    pool, made, said = make_pool(clock, lambda i, n: Replica(clock, i, *comes[n]), 1, 2)
    assert sorted(answer for _, answer in pool.map("work", ask, range(60))) == list(range(60))
    assert [replica.index for replica in made] == [0, 1, 1, 1] and made[3].begun
    assert said[-1].startswith("fake-1 joins from node-1")


def test_an_item_that_kills_four_replicas_ends_the_run(clock: Clock) -> None:
    pool, made, _ = make_pool(clock, lambda i, _: Replica(clock, i, 0), 2)

    def deadly(replica: Replica, item: int) -> Any:
        made = replica.call(SECONDS, item)
        if item == 7:
            replica.die()
        return made

    with pytest.raises(ActorFailedError, match="died 4 times on 7"):
        list(pool.map("work", deadly, range(20)))
    assert len(made) == 2 + 3


@pytest.mark.parametrize("replicas", [1, 3])
def test_what_was_only_beside_an_item_that_kills_is_told_from_it(clock: Clock, replicas: int) -> None:
    """Every replica gets five items, and one of these kills whoever has it, with whatever is beside it."""
    pool, _, _ = make_pool(clock, lambda i, _: Replica(clock, i, 0), replicas, timeout_s=1000)

    def ask(replica: Replica, item: int) -> Any:
        answer = replica.call(SECONDS, item)
        if item == 0:
            replica.die(SECONDS / 2)
        return answer

    with pytest.raises(ActorFailedError, match=r"died 4 times on 0\n"):
        list(pool.map("work", ask, range(30), lambda _: 5))


@pytest.mark.parametrize("replicas", [1, 3])
def test_items_that_kill_are_set_aside_and_no_other_ones(clock: Clock, replicas: int) -> None:
    noted: list[dict[str, object]] = []

    def note(kind: str, **fields: object) -> None:
        noted.extend([fields] if kind == "poisoned" else [])

    pool, _, said = make_pool(clock, lambda i, _: Replica(clock, i, 0), replicas, timeout_s=1000, note=note, poisoned=2)

    def ask(replica: Replica, item: int) -> Any:
        answer = replica.call(SECONDS, item)
        if item in (0, 13):
            replica.die(SECONDS / 2)
        return answer

    answers = dict(pool.map("work", ask, range(30), lambda _: 5, lambda item: -100 - item))
    assert answers == {item: -100 - item if item in (0, 13) else item for item in range(30)}
    assert sorted(str(one["item"]) for one in noted) == ["0", "13"]
    assert sum("set aside" in line for line in said) == 2
    with pytest.raises(ActorFailedError, match="died 4 times on 0"):
        list(pool.map("work", ask, range(30), lambda _: 5, lambda item: -100 - item))


def test_a_node_that_goes_is_no_fault_of_what_was_on_it(clock: Clock) -> None:
    """Spot machines may go any number of times."""
    gone = RayActorError(error_msg="The actor died because its node has died.")
    deaths = iter(range(9))

    def ask(replica: Replica, item: int) -> Any:
        answer = replica.call(SECONDS, item)
        if item == 7 and next(deaths, None) is not None:
            replica.die()
            for call in replica.calls:
                call.answer = gone if isinstance(call.answer, RayActorError) else call.answer
        return answer

    pool, made, _ = make_pool(clock, lambda i, _: Replica(clock, i, 0), 2)
    assert sorted(answer for _, answer in pool.map("work", ask, range(20))) == list(range(20))
    assert len(made) == 2 + 9


def test_a_replica_on_a_node_that_is_to_go_gets_no_more_work(clock: Clock) -> None:
    """It answers what it has; the one in its place is on another node."""
    draining: list[str] = []

    start = lambda i, number: Placed(clock, i, number)  # noqa: E731
    pool, made, said = make_pool(clock, start, 2, draining=lambda: draining)

    def ask(replica: Replica, item: int) -> Any:
        if item == 10:
            draining.append("n0")
        return replica.call(SECONDS, item)

    assert sorted(answer for _, answer in pool.map("work", ask, range(60))) == list(range(60))
    assert said == ["fake-0 leaves: its node 10.0.0.0 is to go", "fake-0 joins from 10.0.0.2 after 0 s"]
    assert len(made) == 3 and made[0].dies_s <= clock.now
    assert all(isinstance(call.answer, (int, dict)) for call in made[0].calls)
    assert made[0].calls[-1].at < made[2].calls[-1].at


@pytest.mark.parametrize("read", [4, 3])
def test_where_all_nodes_are_to_go_as_a_map_ends_others_are_there_for_a_broadcast(clock: Clock, read: int) -> None:
    """Also where the map is not read to its end."""
    draining: list[str] = []
    pool, made, _ = make_pool(clock, lambda i, number: Placed(clock, i, number), 2, draining=lambda: draining)

    def ask(replica: Replica, item: int) -> Any:
        if item == 3:
            draining.extend(["n0", "n1"])
        return replica.call(SECONDS if item < 2 else 9 * SECONDS, item)

    results = pool.map("work", ask, range(4))
    assert sorted(answer for _, (_, answer) in zip(range(read), results, strict=False)) == list(range(read))
    results.close()
    assert set(pool.broadcast("ask", lambda replica: replica.call(1, "x"))) == {"fake-0", "fake-1"}
    assert [replica.index for replica in made] == [0, 1, 0, 1]
    assert clock.now < 25


def test_a_broadcast_goes_on_without_the_dead_and_waits_where_all_are(clock: Clock) -> None:
    pool, made, _ = make_pool(clock, lambda i, n: Replica(clock, i, 60 if n > 1 else 0), 2)
    pool.ready()
    made[1].die()
    assert pool.broadcast("ask", lambda replica: replica.call(1, "x")) == {"fake-0": "x"}
    assert clock.now < 2
    made[0].die()
    assert set(pool.broadcast("ask", lambda replica: replica.call(1, "x")).values()) == {"x"}
    assert clock.now == pytest.approx(61, abs=1)


@pytest.mark.parametrize("right", [True, False])
def test_a_replica_gets_work_only_after_it_has_shown_what_it_must(clock: Clock, right: bool) -> None:
    def entry(replica: Any) -> Iterator[ObjectRef[Any]]:
        answer = yield replica.ref(clock.now + 3, "right" if replica.index == 0 or right else "wrong")
        assert answer is not None
        if answer != "right":
            raise SyncError(f"{replica.index} is {answer}")

    pool, made, _ = make_pool(clock, lambda i, _: Replica(clock, i, 5 * i), 1, 2, entry=entry)
    if right:
        assert len(list(pool.map("work", ask, range(40)))) == 40
        assert made[1].begun[0] == pytest.approx(8, abs=0.5)
    else:
        with pytest.raises(SyncError, match="1 is wrong"):
            list(pool.map("work", ask, range(40)))
        assert made[1].begun == []


def test_idle_replicas_are_sent_away_and_asked_for_again(clock: Clock) -> None:
    pool, made, said = make_pool(clock, lambda i, _: Replica(clock, i, 0), 1, 3, idle_s=3600)
    list(pool.map("work", ask, range(9)))
    assert pool._idle is not None
    pool._idle.cancel()
    pool.members.shrink(lambda: False)
    assert len(pool.replicas) == 3
    pool._idle.function(*pool._idle.args)
    assert [replica.index for replica in pool.replicas] == [0]
    assert sorted(answer for _, answer in pool.map("work", ask, range(30))) == list(range(30))
    assert len(made) == 5 and len(pool.replicas) == 3
    pool.members.shrink(lambda: True)
    pool.close()
    assert len(made) == 5 and pool.replicas == made[:1]
    assert said and all("joins" in line for line in said)


def lengths_of(kind: str, count: int, numbers: random.Random) -> list[int]:
    """Answers of at most 512 tokens: spread evenly, mostly short or very short, or mostly at the limit."""
    draws = {
        "even": lambda: numbers.uniform(1, 512),
        "short": lambda: numbers.expovariate(1 / 200),
        "very short": lambda: numbers.expovariate(1 / 60),
        "long": lambda: numbers.gauss(480, 60),
    }
    return [1 + int(min(511, draws[kind]())) for _ in range(count)]


@pytest.mark.parametrize("kind", ["even", "short", "very short", "long"])
@pytest.mark.parametrize("answers", [CALL_ANSWERS, 128, 256])
def test_the_engines_batch_stays_full(clock: Clock, answers: int, kind: str) -> None:
    """Mean running answers of an engine that runs 256 at once, while shards are left."""
    pool, made, _ = make_pool(clock, lambda i, _: Engine(clock, i, 0), 1, timeout_s=10**6)
    numbers, in_flight = random.Random(0), InFlight(answers)
    calls = [lengths_of(kind, answers, numbers) for _ in range(15360 // answers)]
    pool.ready()
    for call, _ in pool.map("sample", Engine.sample, calls, lambda described: in_flight.calls(described["batch"])):
        in_flight.note(call)
    (engine,) = made
    until = engine.begun[-1]
    ran = sum(min(end, until) - begin for begin, end in engine.runs if begin < until)
    assert ran / until >= 0.9 * engine.batch
