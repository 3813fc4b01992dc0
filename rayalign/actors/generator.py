"""Generators: vLLM replicas behind the `Generator` protocol."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, cast

import ray
from ray import ObjectRef

from rayalign.actors.autoscaler import draining_nodes, pending_demand
from rayalign.actors.calls import CALL_ANSWERS, MOST_IN_FLIGHT, Assembly, Call, InFlight, cut, unanswered
from rayalign.actors.handles import Method, Replica
from rayalign.actors.members import Entry
from rayalign.actors.model_source import ModelSource, local_folder
from rayalign.actors.pool import MAX_TRIES, Note, Pool, Say, ignore
from rayalign.actors.process import describe_process, die, redirect_output, runtime_env
from rayalign.actors.ray_metrics import RayMetrics, unwatched
from rayalign.actors.seats import Seat
from rayalign.config.run import RunConfig
from rayalign.errors import ActorFailedError
from rayalign.records import (
    Adapter,
    AdapterFiles,
    Expected,
    JsonObject,
    Prompt,
    ReplicaState,
    Sample,
    SampledShard,
    SamplingPlan,
    Shard,
    TokenSequence,
    check_gap,
    check_state,
)

PROBE_S = 2.0
"""How long replicas may take to say how far they are, before their answer is not waited for."""


class GeneratorActor:
    """One vLLM engine for the whole run. Calls run concurrently; the engine batches what they ask for."""

    def __init__(self, name: str, model: ModelSource, config: RunConfig, log_folder: str, engines: int = 1) -> None:
        redirect_output(log_folder, name)
        from rayalign.actors.engine import Engine

        self._name = name
        self._engine = Engine(name, str(local_folder(model)), config, die, engines)

    def describe(self) -> JsonObject:
        engine = self._engine
        own = {"batch": engine.batch, "most_threads": engine.threads, "cache_tokens": engine.cache_tokens}
        return {**describe_process(self._name), **own}

    def close(self) -> None:
        self._engine.close()

    def hold(self, version: int, files: AdapterFiles | None) -> ReplicaState:
        # Now that all actors have started: while others load, more threads than one seem to be of no use.
        self._engine.choose_threads()
        return self._engine.hold(version, files)

    def sample(self, prompts: Sequence[Prompt], plan: SamplingPlan, version: int) -> list[Sample]:
        return self._engine.sample(prompts, plan, version)

    def under_way(self) -> int:
        return self._engine.under_way

    def sleep(self, level: int) -> str:
        self._engine.sleep(level)
        return self._name

    def wake(self) -> ReplicaState | None:
        return self._engine.wake()

    def logps(self, sequences: Sequence[TokenSequence], version: int) -> list[list[float]]:
        return self._engine.logps(sequences, version)


class GeneratorHandle(Replica, Protocol):
    """The handle of a `GeneratorActor`."""

    @property
    def hold(self) -> Method[[int, ObjectRef[AdapterFiles | None]], ReplicaState]: ...

    @property
    def sample(self) -> Method[[Sequence[Prompt], SamplingPlan, int], list[Sample]]: ...

    @property
    def under_way(self) -> Method[[], int]: ...

    @property
    def sleep(self) -> Method[[int], str]: ...

    @property
    def wake(self) -> Method[[], ReplicaState | None]: ...

    @property
    def logps(self) -> Method[[Sequence[TokenSequence], int], list[list[float]]]: ...


@dataclass(frozen=True, slots=True)
class Held:
    """What all replicas of a pool hold."""

    adapter: Adapter
    files: ObjectRef[AdapterFiles | None]


class RayGenerator:
    """`Generator` over a pool of vLLM actors.

    Args:
        cpus: logical ones that each reserves.
        threads: of each of their processes.
        nodes: over which they are spread.
    """

    def __init__(
        self,
        model: ModelSource,
        config: RunConfig,
        log_folder: str,
        *,
        cpus: float,
        threads: int = 1,
        nodes: int = 1,
        say: Say,
        note: Note = ignore,
        metrics: RayMetrics | None = None,
        label_selector: dict[str, str] | None = None,
        seats: Sequence[Seat] = (),
    ) -> None:
        size, limits, gpus = config.cluster.generators, config.limits, config.cluster.generators.gpus
        self._takes_turns, self._sleep_level = config.cluster.takes_turns, config.cluster.generators.sleep
        self._held: Held | None = None
        self._expected: Expected | None = None
        self._one_at_a_time = config.loop.deterministic
        self._assemblies: list[Assembly] = []
        """Of the stages that sample now."""
        self._together_s = config.limits.sync_timeout_s
        """Limit of a call that all replicas answer."""
        engines = config.cluster.generators.on_a_node(nodes)
        actor, common = ray.remote(GeneratorActor), {"num_cpus": cpus, "max_concurrency": MOST_IN_FLIGHT + 8}

        def make(i: int) -> GeneratorHandle:
            where = seats[i].options() if seats else {
                "num_gpus": gpus, "label_selector": label_selector, "runtime_env": runtime_env(threads, gpu=gpus > 0)
            }  # fmt: skip
            made = actor.options(**common, **where).remote(f"generator-{i}", model, config, log_folder, engines)
            return cast(GeneratorHandle, made)

        self.pool = Pool(
            "generator",
            make,
            size.min,
            size.max,
            timeout_s=limits.sample_timeout_s,
            start_timeout_s=limits.start_timeout_s,
            say=say,
            note=note,
            watch=metrics.pool if metrics else unwatched,
            entry=self._entry,
            idle_s=size.idle_s,
            waits_for=pending_demand,
            draining=draining_nodes,
            poisoned=limits.poisoned_shards,
        )

    def load(self, adapter: Adapter, files: AdapterFiles | None) -> list[ReplicaState]:
        # Kept before it is sent: a replica that comes while it is under way comes with it.
        self._held = Held(adapter, ray.put(files))
        return list(self._hold(self._held).values())

    def expect(self, expected: Expected) -> None:
        self._expected = expected

    def leave(self) -> None:
        """Let all replicas sleep, those on their way in too, when what runs in them is answered.

        Raises:
            ActorFailedError: one after the other dies of it.
        """
        for _ in range(MAX_TRIES):
            awake = len(self.pool.ready())
            if len(self._send_to_sleep()) == awake:
                return
        raise ActorFailedError(
            f"a generator died of going to sleep, {MAX_TRIES} times",
            "the learner cannot have its device",
            "see logs/generator-*.log; the run can be resumed",
        )

    def _send_to_sleep(self) -> dict[str, str]:
        level = self._sleep_level
        return self.pool.broadcast("sleep", lambda replica: replica.sleep.remote(level), timeout_s=self._together_s)

    def take(self) -> None:
        """Wake all replicas; each shows that it serves what it served before.

        Raises:
            SyncError: one does not.
        """
        states = self.pool.broadcast("wake", lambda replica: replica.wake.remote(), timeout_s=self._together_s)
        if (held := self._held) is None:
            return
        if None in states.values():
            states = self._hold(held)
        for state in states.values():
            assert state is not None
            check_state(state, held.adapter)
        if (expected := self._expected) is not None and expected.version == held.adapter.version:
            for name, logps in self.logps(expected.sequences, held.adapter).items():
                check_gap(name, expected, logps)

    def _hold(self, held: Held) -> dict[str, ReplicaState]:
        version, files = held.adapter.version, held.files
        return self.pool.broadcast(
            "hold", lambda replica: replica.hold.remote(version, files), timeout_s=self._together_s
        )

    def _entry(self, replica: GeneratorHandle) -> Entry:
        """A replica that comes later, or in another's place, holds what the others hold and proves it as they did."""
        if self._takes_turns:
            # It may have been asleep when it was lost.
            yield replica.wake.remote()
        proven = None
        while (held := self._held) is not proven:
            assert held is not None
            state: ReplicaState = yield replica.hold.remote(held.adapter.version, held.files)
            check_state(state, held.adapter)
            if (expected := self._expected) is not None and expected.version == state.version:
                logps = yield replica.logps.remote(expected.sequences, state.version)
                check_gap(state.replica, expected, logps)
            proven = held

    def sample(self, shards: Iterable[Shard], plan: SamplingPlan, adapter: Adapter) -> Iterator[SampledShard]:
        def ask(replica: GeneratorHandle, call: Call) -> ObjectRef[list[Sample]]:
            return replica.sample.remote(call.prompts, plan, adapter.version)

        def room(described: JsonObject) -> int:
            return 1 if self._one_at_a_time else in_flight.calls(described["batch"])

        # What answers a benchmark is judged whole or not at all.
        spare = None if plan.purpose == "benchmark" else partial(unanswered, plan=plan, adapter=adapter)
        in_flight, assembly = InFlight(max(CALL_ANSWERS, plan.responses)), Assembly(plan.responses)
        calls = (call for shard in shards for call in cut(shard, plan, whole=self._one_at_a_time))
        self._assemblies.append(assembly)
        try:
            for call, samples in self.pool.map("sample", ask, calls, room, spare):
                in_flight.note([len(sample.token_ids) for sample in samples])
                if (whole := assembly.add(call, samples)) is not None:
                    yield whole
        finally:
            self._assemblies.remove(assembly)

    def under_way(self) -> int:
        asked = [replica.under_way.remote() for replica in self.pool.replicas]
        done, _ = ray.wait(asked, num_returns=len(asked), timeout=PROBE_S) if asked else ([], [])
        return sum(ray.get(done)) + sum(assembly.waiting for assembly in list(self._assemblies))

    def logps(self, sequences: Sequence[TokenSequence], adapter: Adapter) -> dict[str, list[list[float]]]:
        return self.pool.broadcast(
            "logps",
            lambda replica: replica.logps.remote(sequences, adapter.version),
            timeout_s=self._together_s,
        )
