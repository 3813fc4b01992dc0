"""Scorers: actors that host the scoring backends, behind the `Scorer` protocol."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, cast

import ray
from ray import ObjectRef

from rayalign.actors.autoscaler import draining_nodes, pending_demand
from rayalign.actors.cluster import Cluster
from rayalign.actors.handles import Method, Replica
from rayalign.actors.judge import ActorTransport, JudgeHandle, Judges
from rayalign.actors.members import DEATHS
from rayalign.actors.model_source import ModelSource, local_folder
from rayalign.actors.pool import Note, Pool, Say, ignore
from rayalign.actors.process import check_torch, describe_process, redirect_output, runtime_env
from rayalign.actors.ray_metrics import RayMetrics, unwatched
from rayalign.actors.threads import ONE_EACH, Threads
from rayalign.config.run import RunConfig
from rayalign.errors import ActorFailedError
from rayalign.records import (
    NOT_SCORED,
    JsonObject,
    Prompt,
    Repeat,
    Sample,
    SampledShard,
    Score,
    ScoredSample,
    ScoredShard,
)
from rayalign.scoring.scorers import Scorers
from rayalign.scoring.services.cache import bypassed
from rayalign.scoring.sources import ScorerSource
from rayalign.scoring.trial import some_prompts

DEADLINE_SHARE = 0.9
"""The share of `limits.score_timeout_s` that scorers get, so that a shard is back before the pool gives them up."""


@dataclass(frozen=True, slots=True)
class RunCache:
    """Where services keep their results if their section names no folder: in a local run folder, on its own node.

    SQLite needs a file system that one machine has to itself, so that actors on other nodes than the driver's, whether
    or not they see the run folder, do without.
    """

    folder: Path
    node_id: str

    def usable_here(self) -> bool:
        return ray.get_runtime_context().get_node_id() == self.node_id


class ScorerActor:
    """Hosts all scorers of the config."""

    def __init__(
        self,
        name: str,
        config: RunConfig,
        sources: list[ScorerSource],
        models: list[ModelSource | None],
        log_folder: str,
        run_cache: RunCache | None = None,
        judges: Mapping[str, Sequence[JudgeHandle]] | None = None,
    ) -> None:
        """Load everything.

        Args:
            judges: the actors of the config's judges that have one, by name.
        """
        redirect_output(log_folder, name)
        check_torch(config.cluster.scorers.gpus, "cluster.scorers.gpus")
        self._name = name
        self._within_s = DEADLINE_SHARE * config.limits.score_timeout_s
        actors = judges or {}
        here = [
            replace(
                source,
                model=local_folder(model) if model else source.model,
                transport=ActorTransport(actors[section.name]) if section.name in actors else None,
            )
            for section, source, model in zip(config.scoring, sources, models, strict=True)
        ]
        self._scorers = Scorers(
            config.scorer_settings, here, run_cache.folder if run_cache and run_cache.usable_here() else None
        )

    def describe(self) -> JsonObject:
        return {**describe_process(self._name), "scorers": self._scorers.versions}

    def close(self) -> None:
        """End what the scorers started."""
        self._scorers.close()

    def try_out(self, prompts: Sequence[Prompt]) -> None:
        """See `Scorers.try_out`."""
        self._scorers.try_out(prompts, self._within_s)

    def score(
        self,
        prompts: Sequence[Prompt],
        samples: Sequence[Sample],
        fresh: bool = False,
        repeat: Repeat | None = None,
    ) -> list[ScoredSample]:
        """See `Scorers.score`.

        Args:
            fresh: no cache answers.
            repeat: see `Scorers.score`.
        """
        with bypassed() if fresh else nullcontext():
            return self._scorers.score(prompts, samples, self._within_s, repeat)


class ScorerHandle(Replica, Protocol):
    """The handle of a `ScorerActor`."""

    @property
    def try_out(self) -> Method[[Sequence[Prompt]], None]: ...

    @property
    def score(self) -> Method[[Sequence[Prompt], Sequence[Sample], bool, Repeat | None], list[ScoredSample]]: ...


class RayScorer:
    """`Scorer` over a pool of scorer actors, with the judges that they ask."""

    def __init__(
        self,
        config: RunConfig,
        sources: list[ScorerSource],
        log_folder: str,
        cluster: Cluster,
        cache: Path | None,
        *,
        cpus: float,
        threads: Threads = ONE_EACH,
        say: Say,
        note: Note = ignore,
        metrics: RayMetrics | None = None,
    ) -> None:
        self._limits, self._metrics, self._sections, self._sources = config.limits, metrics, config.scoring, sources
        self.judges = Judges(config, config.scoring, sources, log_folder, cluster, cpus=cpus, threads=threads.judge)
        judges = self.judges.actors
        models = [
            ModelSource.of(source.model, cluster) if source.model and section.name not in judges else None
            for section, source in zip(config.scoring, sources, strict=True)
        ]
        run_cache = RunCache(cache, cluster.driver_node) if cache is not None else None
        gpus = config.cluster.scorers.gpus
        actor = ray.remote(ScorerActor).options(
            num_cpus=cpus, num_gpus=gpus, max_concurrency=2, runtime_env=runtime_env(threads.scorer, gpu=gpus > 0)
        )

        def make(i: int) -> ScorerHandle:
            return cast(
                ScorerHandle, actor.remote(f"scorer-{i}", config, sources, models, log_folder, run_cache, judges)
            )

        size = config.cluster.scorers
        self.pool = Pool(
            "scorer",
            make,
            size.min,
            size.max,
            timeout_s=config.limits.score_timeout_s,
            start_timeout_s=config.limits.start_timeout_s,
            say=say,
            note=note,
            watch=metrics.pool if metrics else unwatched,
            idle_s=size.idle_s,
            waits_for=pending_demand,
            draining=draining_nodes,
            poisoned=config.limits.poisoned_shards,
        )

    def ready(self) -> list[JsonObject]:
        """Wait until judges and scorers answer; returns their descriptions."""
        return [*self.judges.ready(), *self.pool.ready()]

    def try_out(self, prompts: Sequence[Prompt]) -> None:
        """Have a scorer score canned answers to prompts, before anything is sampled.

        Raises:
            ConfigError: one of the config's scorers gives nothing but failures.
            ActorFailedError: the scorer died of it.
        """
        prompts = some_prompts(prompts)
        limit = self._limits.score_timeout_s * max(1, len(prompts))
        first = self.pool.members.ready[0]
        assert first.handle is not None
        name = f"scorer-{first.index}"
        try:
            self.pool.get(first.handle.try_out.remote(prompts), first.index, "try_out", limit)
        except DEATHS as death:
            raise ActorFailedError(
                f"{name} died of canned answers",
                str(death).splitlines()[0],
                f"see logs/{name}.log; give a rule that may end its process a timeout_s",
            ) from death

    def close(self) -> None:
        self.pool.close()
        self.judges.close()

    def score(self, sampled: Iterable[SampledShard]) -> Iterator[ScoredShard]:
        def ask(replica: ScorerHandle, item: SampledShard) -> ObjectRef[list[ScoredSample]]:
            return replica.score.remote(item.shard.prompts, item.samples, item.fresh, item.repeat)

        for item, rows in self.pool.map("score", ask, sampled, spare=self._unscored):
            if self._metrics is not None:
                self._metrics.scored(rows)
            yield ScoredShard(item.shard, rows)

    def _unscored(self, item: SampledShard) -> list[ScoredSample]:
        scorers = zip(self._sections, self._sources, strict=True)
        scores = [Score(section.name, one.version, "abstain", reason=NOT_SCORED) for section, one in scorers]
        return [ScoredSample(sample, scores, None) for sample in item.samples]
