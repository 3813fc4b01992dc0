"""A pool of real actors: what happens to its threads when a run ends in the middle."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import ray
from ray.exceptions import GetTimeoutError

from rayalign import stopping
from rayalign.actors.handles import MANY, fetch, our_error
from rayalign.actors.pool import Pool
from rayalign.errors import ActorFailedError, GuardError, InterruptedRunError, ModelError

pytestmark = pytest.mark.integration

START_S = 300  # A worker of Ray's that does not register is only given up after 60 s, and started again.


class Slow:
    def describe(self) -> dict[str, str]:
        return {"address": "here"}

    def double(self, number: int) -> int:
        time.sleep(0.05)
        return 2 * number

    def plus(self, number: int) -> int:
        return number + 1

    def wait(self) -> None:
        time.sleep(60)

    def close(self) -> None:
        """Nothing to tidy up."""


def make_pool(name: str, said: list[str]) -> Pool[Any]:
    actor: Any = ray.remote(Slow).options(num_cpus=0)
    return Pool(name, lambda _: actor.remote(), 1, timeout_s=60, start_timeout_s=START_S, say=said.append)


def double(replica: Any, number: int) -> ray.ObjectRef[int]:
    return replica.double.remote(number)


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


def test_results_of_chained_pools(local_ray: None) -> None:
    first, second = make_pool("first", []), make_pool("second", [])
    doubled = (result for _, result in first.map("double", double, range(20)))
    assert sorted(result for _, result in second.map("double", double, doubled)) == [4 * i for i in range(20)]
    first.close()
    second.close()
    assert not readers()


def test_a_dead_replica_is_replaced_and_its_item_not_lost(local_ray: None) -> None:
    said: list[str] = []
    pool = make_pool("slow", said)
    results = pool.map("double", double, range(20))
    first = next(results)
    ray.kill(pool.replicas[0])
    assert sorted(i for i, _ in [first, *results]) == list(range(20))
    assert [line.split(":")[0] for line in said][:1] == ["slow-0 died"]
    pool.close()


def test_very_many_calls_at_once_and_a_death_among_them(local_ray: None) -> None:
    pool = make_pool("many", [])
    results = pool.map("plus", lambda replica, number: replica.plus.remote(number), range(3 * MANY), lambda _: 2 * MANY)
    first = next(results)
    ray.kill(pool.replicas[0])
    answered = [first, *results]
    assert sorted(answered) == [(i, i + 1) for i in range(3 * MANY)]
    pool.close()


def test_closing_ends_the_threads_and_starts_nothing_again(local_ray: None, wait_for: Callable) -> None:
    """A run that is stopped closes its pools while the first one's calls are still made by the second one's reader."""
    for _ in range(5):
        said: list[str] = []
        first, second = make_pool("first", said), make_pool("second", said)
        doubled = (result for _, result in first.map("double", double, range(10**6)))
        results = second.map("double", double, doubled)
        next(results)
        first.close()
        second.close()
        assert said == []
        wait_for(lambda: not readers(), 60)
        with pytest.raises(ActorFailedError, match="pool is closed"):
            list(results)


class Picky:
    """Its constructor refuses."""

    def __init__(self, error: Exception) -> None:
        raise error

    def describe(self) -> dict[str, str]:
        raise AssertionError("never made")

    def close(self) -> None:
        """Nothing to tidy up."""


def picky_pool(error: Exception, said: list[str]) -> Pool[Any]:
    actor: Any = ray.remote(Picky).options(num_cpus=0)
    return Pool("picky", lambda _: actor.remote(error), 1, timeout_s=60, start_timeout_s=START_S, say=said.append)


def test_an_error_of_ours_in_a_constructor_comes_home_as_it_was(local_ray: None) -> None:
    """With its text and exit code, and without a second start, which would meet it again."""
    said: list[str] = []
    pool = picky_pool(ModelError("two\nlines found", "because", "do\nthis"), said)
    with pytest.raises(ModelError) as caught:
        pool.ready()
    error = caught.value
    assert (error.found, error.why, error.remedy, error.exit_code) == ("two\nlines found", "because", "do\nthis", 2)
    assert said == []
    pool.close()


def test_another_error_in_a_constructor_is_named(local_ray: None) -> None:
    said: list[str] = []
    pool = picky_pool(OSError("no space left"), said)
    with pytest.raises(ActorFailedError) as caught:
        pool.ready()
    assert caught.value.why == "OSError: no space left"
    pool.close()


def test_an_error_of_ours_is_found_wherever_ray_keeps_it(local_ray: None) -> None:
    """What a task raises; what it raises in a task that it waits for; and what Ray Train makes of a worker's."""
    from ray.train import WorkerGroupError
    from ray.train.v2._internal.exceptions import UserExceptionWithTraceback

    @ray.remote(num_cpus=0)
    def fail() -> None:
        raise GuardError("found", "why", "remedy")

    @ray.remote(num_cpus=0)
    def wait() -> None:
        ray.get(fail.remote())

    raised: list[BaseException] = []
    for task in (fail, wait):
        try:
            ray.get(task.remote())
        except Exception as error:
            raised.append(error)
    raised.append(WorkerGroupError("text", {1: UserExceptionWithTraceback(GuardError("found", "why", "remedy"), "x")}))
    assert len(raised) == 3
    for error in raised:
        ours = our_error(error)
        assert type(ours) is GuardError and (ours.found, ours.why, ours.remedy) == ("found", "why", "remedy")
    assert our_error(ValueError("x")) is None


def test_a_stop_ends_every_wait_for_actors(local_ray: None) -> None:
    actor: Any = ray.remote(Slow).options(num_cpus=0, max_concurrency=2)
    replica = actor.remote()
    ray.get(replica.describe.remote())
    never, enough = replica.wait.remote(), threading.Event()
    pool: Pool[Any] = Pool("slow", lambda _: replica, 1, timeout_s=60, start_timeout_s=START_S, say=str)
    waits = {
        "fetch": lambda: fetch(never, 60),
        "fetch without a limit": lambda: fetch(never),
        "broadcast": lambda: pool.broadcast("wait", lambda _: never),
        "map": lambda: list(pool.map("wait", lambda *_: never, [1, 2])),
        "map whose items do not come": lambda: list(pool.map("double", double, iter(enough.wait, True))),
    }
    for name, wait in waits.items():
        stop = threading.Timer(0.5, stopping._asked.set)
        stop.start()
        began = time.monotonic()
        with pytest.raises(InterruptedRunError):
            wait()
        assert time.monotonic() - began < 3, name
        stopping._asked.clear()
    with pytest.raises(GetTimeoutError):
        fetch(never, 0.1)
    enough.set()
    ray.kill(replica)


class Fragile:
    """Dies of some numbers."""

    def __init__(self, deadly: set[int]) -> None:
        self._deadly = deadly

    def describe(self) -> dict[str, str]:
        return {"address": "here", "node_id": ray.get_runtime_context().get_node_id()}

    def double(self, number: int) -> int:
        if number in self._deadly:
            os._exit(1)
        time.sleep(0.02)
        return 2 * number

    def close(self) -> None:
        """Nothing to tidy up."""


def fragile_pool(deadly: set[int], said: list[str], **options: Any) -> Pool[Any]:
    actor: Any = ray.remote(Fragile).options(num_cpus=0, max_concurrency=2)
    return Pool(
        "fragile", lambda _: actor.remote(deadly), 2, timeout_s=60, start_timeout_s=START_S, say=said.append, **options
    )


def test_items_that_replicas_die_of_are_set_aside(local_ray: None) -> None:
    """And no other one, whatever was beside them when a replica died."""
    said: list[str] = []
    noted: list[tuple[str, dict[str, Any]]] = []

    def note(kind: str, **fields: Any) -> None:
        noted.append((kind, fields))

    pool = fragile_pool({3, 8}, said, note=note, poisoned=2)
    answers = dict(pool.map("double", double, range(12), spare=lambda number: -number))
    assert answers == {number: -number if number in (3, 8) else 2 * number for number in range(12)}
    assert sorted(line for line in said if "set aside" in line) == [
        f"{number} is set aside: one fragile after the other died of it" for number in (3, 8)
    ]
    assert sorted(fields["item"] for kind, fields in noted if kind == "poisoned") == ["3", "8"]
    pool.close()


@pytest.mark.parametrize(("poisoned", "spare"), [(0, lambda number: -number), (9, None)])
def test_where_nothing_may_be_set_aside_the_run_ends(local_ray: None, poisoned: int, spare: Any) -> None:
    pool = fragile_pool({3}, [], poisoned=poisoned)
    with pytest.raises(ActorFailedError, match=r"double died 4 times on 3") as caught:
        list(pool.map("double", double, range(6), spare=spare))
    assert caught.value.exit_code == 3
    pool.close()


def test_a_replica_on_a_node_that_is_to_go_is_replaced_when_it_has_answered(local_ray: None) -> None:
    said: list[str] = []
    node = ray.get_runtime_context().get_node_id()
    draining: list[str] = []
    pool = fragile_pool(set(), said, draining=lambda: draining)
    results = pool.map("double", double, range(400))
    some = [next(results)]
    old = {replica._actor_id for replica in pool.replicas}
    draining.append(node)
    while len(said) < 2:
        some.append(next(results))
    # Its own node is back: the replicas that come are not sent away again.
    draining.clear()
    answered = [*some, *results]
    assert sorted(answered) == [(number, 2 * number) for number in range(400)]
    assert [line.partition(":")[0] for line in said[:2]] == ["fragile-0 leaves", "fragile-1 leaves"]
    assert not old & {replica._actor_id for replica in pool.replicas}
    pool.close()
