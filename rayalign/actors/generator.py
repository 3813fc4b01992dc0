"""Generators: vLLM replicas behind the `Generator` protocol."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, cast

import ray
from ray import ObjectRef

from rayalign.actors.handles import Method, Replica, fetch
from rayalign.actors.model_source import ModelSource, local_folder
from rayalign.actors.pool import Pool, Say
from rayalign.actors.process import describe_process, die, redirect_output, runtime_env
from rayalign.config.run import RunConfig
from rayalign.records import (
    Adapter,
    AdapterFiles,
    JsonObject,
    Prompt,
    ReplicaState,
    Sample,
    SampledShard,
    SamplingPlan,
    Shard,
    TokenSequence,
)

PROBE_S = 2.0
"""How long replicas may take to say how far they are, before their answer is not waited for."""


class GeneratorActor:
    """One vLLM engine for the whole run. Calls run concurrently; the engine batches what they ask for."""

    def __init__(self, name: str, model: ModelSource, config: RunConfig, log_folder: str) -> None:
        redirect_output(log_folder, name)
        from rayalign.actors.engine import Engine

        self._name = name
        self._engine = Engine(name, str(local_folder(model)), config, on_failure=die)

    def describe(self) -> JsonObject:
        return describe_process(self._name)

    def close(self) -> None:
        self._engine.close()

    def hold(self, version: int, files: AdapterFiles | None) -> ReplicaState:
        return self._engine.hold(version, files)

    def sample(self, prompts: Sequence[Prompt], plan: SamplingPlan, version: int) -> list[Sample]:
        return self._engine.sample(prompts, plan, version)

    def under_way(self) -> int:
        return self._engine.under_way

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
    def logps(self) -> Method[[Sequence[TokenSequence], int], list[list[float]]]: ...


class RayGenerator:
    """`Generator` over a pool of vLLM actors."""

    def __init__(
        self,
        model: ModelSource,
        config: RunConfig,
        log_folder: str,
        *,
        cpus: float,
        say: Say,
        label_selector: dict[str, str] | None = None,
    ) -> None:
        gpus = config.cluster.generators.gpus
        self._held: tuple[int, ObjectRef[AdapterFiles | None]] | None = None
        self._sync_timeout_s = config.limits.sync_timeout_s
        actor = ray.remote(GeneratorActor).options(
            num_cpus=cpus,
            num_gpus=gpus,
            max_concurrency=8,
            label_selector=label_selector,
            runtime_env=runtime_env(1, gpu=gpus > 0),
        )

        def make(i: int) -> GeneratorHandle:
            return cast(GeneratorHandle, actor.remote(f"generator-{i}", model, config, log_folder))

        self.pool = Pool(
            "generator",
            make,
            config.cluster.generators.min,
            timeout_s=config.limits.sample_timeout_s,
            start_timeout_s=config.limits.start_timeout_s,
            say=say,
            in_flight=1 if config.loop.deterministic else 2,
            set_up=self._hold_again,
        )

    def load(self, adapter: Adapter, files: AdapterFiles | None) -> list[ReplicaState]:
        # Kept before it is sent: a replica that dies on the way is replaced by one that holds it.
        version, put = self._held = (adapter.version, ray.put(files))
        return self.pool.broadcast(
            "hold", lambda replica: replica.hold.remote(version, put), timeout_s=self._sync_timeout_s
        )

    def _hold_again(self, replica: GeneratorHandle) -> None:
        if self._held is not None:
            fetch(replica.hold.remote(*self._held), self._sync_timeout_s)

    def sample(self, shards: Iterable[Shard], plan: SamplingPlan, adapter: Adapter) -> Iterator[SampledShard]:
        def ask(replica: GeneratorHandle, shard: Shard) -> ObjectRef[list[Sample]]:
            return replica.sample.remote(shard.prompts, plan, adapter.version)

        for shard, samples in self.pool.map("sample", ask, shards):
            yield SampledShard(shard, samples)

    def under_way(self) -> int:
        asked = [replica.under_way.remote() for replica in self.pool.replicas]
        done, _ = ray.wait(asked, num_returns=len(asked), timeout=PROBE_S)
        return sum(ray.get(done))

    def logps(self, sequences: Sequence[TokenSequence], adapter: Adapter) -> dict[str, list[list[float]]]:
        answers = self.pool.broadcast(
            "logps",
            lambda replica: replica.logps.remote(sequences, adapter.version),
            timeout_s=self._sync_timeout_s,
        )
        return {f"generator-{i}": answer for i, answer in enumerate(answers)}
