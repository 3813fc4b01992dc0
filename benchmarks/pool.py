"""How well the real pool code keeps very many replicas busy, and what it costs the driver, on a virtual clock.

256 replicas, each an engine whose batch holds 64 answers, work on 100,000 shards of 32 answers with heavy-tailed
lengths. Two of a hundred calls end with the death of their replica, whose replacement takes 60 s; a quarter of the
replicas joins late, and a sixteenth is lost on the way and made anew. Made up are clock, waits and replicas; the
pool's own code (`rayalign/actors/pool*.py`, `members.py`) runs as it is.

    .venv/bin/python benchmarks/pool.py [--replicas 256 --shards 100000]

The makespan is compared with what no schedule can beat: all answers spread over all the places that there were, and
the longest answer. The driver's cost is the processor time of this process without that of the made-up parts, and what
a `ray.wait` over as many calls takes in a real Ray, which is measured beside it. The last line is JSON.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import math
import random
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from ray.exceptions import RayActorError  # noqa: E402

from rayalign.actors import members, pool, pool_map, pool_use  # noqa: E402
from rayalign.actors.calls import CALL_ANSWERS, InFlight  # noqa: E402
from rayalign.actors.handles import BREATH_S, MANY  # noqa: E402
from rayalign.actors.prefetch import NOT_READY  # noqa: E402

ANSWERS, BATCH, TOKENS_PER_S = 32, 64, 50.0
"""Of a shard; of a replica; of each answer that runs."""
MEDIAN, SIGMA, MOST = 120.0, 1.0, 2048
"""Tokens of an answer: log-normal, cut off."""
START_S, FAILURES = 60.0, 0.02
WAITS = 200
MAKESPAN, DRIVER_MS = 1.10, 0.3
"""What is asked: times the bound, and processor time for each shard."""


class Ref:
    """A call's answer, there from `at` on; an exception is raised."""

    __slots__ = ("answer", "at", "done")

    def __init__(self, at: float, answer: Any) -> None:
        self.at, self.answer, self.done = at, answer, False


class World:
    """The clock, and all calls that are under way; takes the place of Ray's waits and of `time` in the pool's modules.

    `cost_s` is the processor time that this took, which is no part of the pool's.
    """

    def __init__(self) -> None:
        self.now = self.cost_s = 0.0
        self.waits = self.waited_for = 0
        """How often the pool waited, and for how many calls in all."""
        self._calls: list[tuple[float, int, Ref]] = []
        self._numbers = itertools.count()
        for module in (members, pool, pool_map, pool_use):
            module.time = SimpleNamespace(monotonic=lambda: self.now)  # pyright: ignore
            module.answer_of = answer_of  # pyright: ignore
        for module in (pool, pool_map):
            module.first_done = self.first_done  # pyright: ignore
        for module in (members, pool):
            module.end = lambda replica: replica.die(self.now)  # pyright: ignore
        pool_map.Prefetch = Source  # pyright: ignore
        pool.ray = SimpleNamespace(wait=lambda *_, **__: None)  # pyright: ignore

    def expect(self, ref: Ref) -> Ref:
        heapq.heappush(self._calls, (ref.at, next(self._numbers), ref))
        return ref

    def first_done(self, refs: Sequence[Ref], timeout_s: float) -> list[Ref]:
        """All that are done when the first one is, or when the pool looks (`handles.first_done`); it waits for all."""
        started = time.process_time()
        self.waits += 1
        self.waited_for += len(refs)
        found: list[Ref] = []
        until = self.now + (timeout_s if len(refs) <= MANY else min(BREATH_S, timeout_s))
        while self._calls and self._calls[0][0] <= until:
            at, _, ref = heapq.heappop(self._calls)
            if not ref.done and ref.at == at:
                self.now = max(self.now, at)
                until = self.now if len(refs) <= MANY else until
                ref.done = True
                found.append(ref)
        self.now = until
        self.cost_s += time.process_time() - started
        return found


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


def answer_of(ref: Ref) -> Any:
    if isinstance(ref.answer, Exception):
        raise ref.answer
    return ref.answer


class Replica:
    """An engine: as many answers as its batch holds run at once, the others of its shards wait in line."""

    def __init__(self, world: World, rng: random.Random, index: int, there: float, gone: float = math.inf) -> None:
        self._world, self._rng, self._index = world, rng, index
        self.there, self.gone = there, gone
        self._places = [there] * BATCH
        self._calls: list[Ref] = []

    def sample(self, seconds: Sequence[float], failing: float) -> Ref:
        started = time.process_time()
        last = 0.0
        for one in seconds:
            begin = max(self._world.now, self._places[0])
            heapq.heapreplace(self._places, begin + one)
            last = max(last, begin + one)
        made = self._ref(last, seconds)
        if self._rng.random() < failing:
            self.die(self._world.now + self._rng.random() * (last - self._world.now))
        self._world.cost_s += time.process_time() - started
        return made

    def _ref(self, at: float, answer: Any) -> Ref:
        made = Ref(at, answer) if at < self.gone else Ref(max(self.gone, self._world.now), RayActorError())
        self._calls = [one for one in self._calls if not one.done]
        self._calls.append(made)
        return self._world.expect(made)

    def die(self, at: float) -> None:
        """What would be done later ends then, by its death."""
        self.gone = min(self.gone, at)
        for call in self._calls:
            if not call.done and call.at > at:
                call.at, call.answer = at, RayActorError()
                self._world.expect(call)

    @property
    def describe(self) -> Any:
        made = {"address": f"node-{self._index}", "batch": BATCH}
        return SimpleNamespace(remote=lambda: self._ref(max(self._world.now, self.there), made))

    @property
    def close(self) -> Any:
        return SimpleNamespace(remote=lambda: self._ref(self._world.now, None))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicas", type=int, default=256)
    parser.add_argument("--shards", type=int, default=100_000)
    asked = parser.parse_args()
    rng = random.Random(0)
    shards = [[answer_seconds(rng) for _ in range(ANSWERS)] for _ in range(asked.shards)]
    work = sum(map(sum, shards))
    world, made, deaths, spent_s = run(shards, asked.replicas, work / (asked.replicas * BATCH), rng)
    bound = least_makespan(made, work)
    calls = round(world.waited_for / world.waits)
    wait_ms = real_wait_ms(calls) * world.waits / asked.shards
    result = {
        "replicas": asked.replicas,
        "shards": asked.shards,
        "made": len(made),
        "calls_that_died": deaths,
        "makespan_s": round(world.now, 1),
        "bound_s": round(bound, 1),
        "ratio": round(world.now / bound, 4),
        "driver_ms_per_shard": round(1000 * spent_s / asked.shards, 4),
        "calls_at_once": calls,
        "ray_wait_ms_per_shard": round(wait_ms, 4),
    }
    passed = result["ratio"] <= MAKESPAN and result["driver_ms_per_shard"] + wait_ms <= DRIVER_MS
    for name, value in result.items():
        print(f"{name:24} {value}")
    print(json.dumps({**result, "passed": passed}))


def run(
    shards: Sequence[list[float]], replicas: int, expected_s: float, rng: random.Random
) -> tuple[World, list[Replica], int, float]:
    """The world after all shards, every replica that there ever was, calls that died, and the pool's processor time."""
    world, made, begun = World(), list[Replica](), set[int]()

    def make(index: int) -> Replica:
        there, gone = world.now + START_S, math.inf
        if index not in begun:
            there = rng.random() * expected_s / 2 if index >= replicas - replicas // 4 else 0.0
            gone = rng.random() * expected_s if index < replicas // 16 else math.inf
        begun.add(index)
        made.append(Replica(world, rng, index, there, gone))
        return made[-1]

    flight = InFlight(CALL_ANSWERS)
    answered, calls = 0, 0

    def ask(replica: Replica, shard: list[float]) -> Ref:
        nonlocal calls
        calls += 1
        return replica.sample(shard, FAILURES / flight.calls(BATCH))

    before = time.process_time()
    fake = pool.Pool("fake", make, 1, replicas, timeout_s=1e9, start_timeout_s=1e9, say=lambda _: None)
    fake.ready()
    for shard, _ in fake.map("sample", ask, shards, lambda said: flight.calls(said["batch"])):  # pyright: ignore
        flight.note([int(TOKENS_PER_S * one) for one in shard])
        answered += 1
    assert answered == len(shards)
    return world, made, calls - answered, time.process_time() - before - world.cost_s


def answer_seconds(rng: random.Random) -> float:
    return min(MOST, rng.lognormvariate(math.log(MEDIAN), SIGMA)) / TOKENS_PER_S


def least_makespan(replicas: Sequence[Replica], work: float) -> float:
    """When so many seconds of answers can be done at the earliest, on all the places that were there."""
    changes = [(one.there, BATCH) for one in replicas] + [(one.gone, -BATCH) for one in replicas]
    places, now, done = 0, 0.0, 0.0
    for at, change in sorted(changes):
        if places and done + places * (at - now) >= work:
            break
        done, now, places = done + places * (at - now), at, places + change
    return now + (work - done) / places


def real_wait_ms(calls: int) -> float:
    """Of the driver's processor time, a `ray.wait` over so many calls of which one is done."""
    import os

    import ray

    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")

    @ray.remote(num_cpus=0)
    class Waiting:
        def wait(self, seconds: float) -> None:
            time.sleep(seconds)

    actor = Waiting.remote()
    refs = [ray.put(None), *(actor.wait.remote(3600) for _ in range(calls))]
    ray.wait(refs)
    started = time.process_time()
    for _ in range(WAITS):
        ray.wait(refs)
    took = (time.process_time() - started) / WAITS
    ray.shutdown()
    return 1000 * took


if __name__ == "__main__":
    main()
