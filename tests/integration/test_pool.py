"""A pool of real actors: what happens to its threads when a run ends in the middle."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
import ray

from rayalign.actors.pool import Pool
from rayalign.errors import ActorFailedError

pytestmark = pytest.mark.integration


class Slow:
    def describe(self) -> dict[str, str]:
        return {"address": "here"}

    def double(self, number: int) -> int:
        time.sleep(0.05)
        return 2 * number

    def close(self) -> None:
        """Nothing to tidy up."""


def make_pool(name: str, said: list[str]) -> Pool[Any]:
    actor: Any = ray.remote(Slow).options(num_cpus=0)
    return Pool(name, lambda _: actor.remote(), 1, timeout_s=60, start_timeout_s=60, say=said.append)


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


def test_closing_ends_the_threads_and_starts_nothing_again(local_ray: None) -> None:
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
        assert not readers()
        with pytest.raises(ActorFailedError, match="pool is closed"):
            list(results)
