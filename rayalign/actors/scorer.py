"""Scorers: actors that host the scoring backends, behind the `Scorer` protocol."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import ray

from rayalign.actors.cluster import Cluster
from rayalign.actors.judge import ActorTransport, Judges
from rayalign.actors.model_source import ModelSource, local_folder
from rayalign.actors.pool import Pool, Say
from rayalign.actors.process import describe_process, redirect_output, runtime_env
from rayalign.config import RunConfig
from rayalign.config_scoring import (
    AnswerScoring,
    FittedCalibration,
    JudgeScoring,
    RemoteScoring,
    RewardModelScoring,
    RuleScoring,
    Scoring,
    SimilarityScoring,
    UnitTestScoring,
)
from rayalign.records import Prompt, Sample, Score, ScoredSample
from rayalign.scoring.answer import AnswerScorer
from rayalign.scoring.backend import Backend
from rayalign.scoring.calibration import calibrate
from rayalign.scoring.combine import combine
from rayalign.scoring.judge import FunctionJudge
from rayalign.scoring.network import build_service
from rayalign.scoring.rule import IsolatedRuleScorer, RuleScorer
from rayalign.scoring.rule_file import RuleSource, compile_rule, rule_version
from rayalign.scoring.sources import ScorerSource
from rayalign.stages import SampledShard, ScoredShard


def build_backend(section: Scoring, source: ScorerSource, config: RunConfig) -> Backend:
    """The backend of a config section, in one of the run's scorer actors.

    Raises:
        RayalignError: what it needs is not to be had on this node.
    """
    match section:
        case RuleScoring():
            return _rule(section, source.rule)
        case AnswerScoring():
            return AnswerScorer(section)
        case UnitTestScoring():
            from rayalign.scoring.unit_test import UnitTestScorer

            return UnitTestScorer(section)
        case RewardModelScoring():
            from rayalign.scoring.reward_model import RewardModelScorer

            assert source.model is not None and source.model_sha256 is not None
            return RewardModelScorer(section, source.model, source.model_sha256, _device(config))
        case SimilarityScoring():
            from rayalign.scoring.similarity import SimilarityScorer

            assert source.model is not None and source.model_sha256 is not None
            return SimilarityScorer(section, source.model, source.model_sha256, _device(config))
        case JudgeScoring(transport="demo"):
            from rayalign.demo import world

            return FunctionJudge(section.name, rule_version("judge", inspect.getsource(world)), world.judge)
        case JudgeScoring() | RemoteScoring():
            return build_service(section, source, config)


def _device(config: RunConfig) -> str:
    return "cuda" if config.cluster.scorers.gpus > 0 else "cpu"


def _rule(section: RuleScoring, source: RuleSource | None) -> Backend:
    if source is None:
        from rayalign.demo import world

        source = RuleSource(world.__file__, inspect.getsource(world), "score")
    options: dict[str, Any] = {"batch": section.batch, "concurrency": section.concurrency}
    if section.timeout_s is not None:
        return IsolatedRuleScorer(section.name, source, timeout_s=section.timeout_s, **options)
    return RuleScorer(section.name, source.version, compile_rule(source), **options)


class ScorerActor:
    """Hosts all scorers of the config; models and files are loaded once."""

    def __init__(
        self,
        name: str,
        config: RunConfig,
        sources: list[ScorerSource],
        models: list[ModelSource | None],
        log_folder: str,
        judges: Mapping[str, Any] | None = None,
    ) -> None:
        """Load everything.

        Args:
            judges: the actors of the config's judges that have one, by name.
        """
        redirect_output(log_folder, name)
        self._name = name
        self._config = config
        actors = judges or {}
        self._sources = [
            replace(
                source,
                model=local_folder(model) if model else source.model,
                transport=ActorTransport(actors[section.name]) if section.name in actors else None,
            )
            for section, source, model in zip(config.scoring, sources, models, strict=True)
        ]
        pairs = zip(config.scoring, self._sources, strict=True)
        self._backends = [build_backend(section, source, config) for section, source in pairs]

    def describe(self) -> dict[str, Any]:
        versions = {backend.name: backend.version for backend in self._backends}
        return {**describe_process(self._name), "scorers": versions}

    def close(self) -> None:
        """End what the backends started: child processes, event loops, connections and caches."""
        for backend in self._backends:
            backend.close()

    def score(self, prompts: Sequence[Prompt], samples: Sequence[Sample]) -> list[ScoredSample]:
        """Every sample with the scores of all backends, as they gave them, and the reward they combine to."""
        by_id = {prompt.id: prompt for prompt in prompts}
        owners = [by_id[sample.prompt_id] for sample in samples]
        columns = [backend.score(owners, samples) for backend in self._backends]
        ids = [sample.prompt_id for sample in samples]
        rewards = combine_columns(self._config, self._sources, ids, columns)
        rows = zip(samples, rewards, *columns, strict=True)
        return [ScoredSample(sample, list(scores), reward) for sample, reward, *scores in rows]


def combine_columns(
    config: RunConfig, sources: Sequence[ScorerSource], prompt_ids: Sequence[str], columns: Sequence[Sequence[Score]]
) -> list[float | None]:
    """[scorers][answers] scores -> one reward per answer: each scorer calibrated, then combined."""
    calibrated = []
    for section, source, column in zip(config.scoring, sources, columns, strict=True):
        kind = section.calibration.type if isinstance(section.calibration, FittedCalibration) else section.calibration
        calibrated.append(calibrate([score.reward for score in column], prompt_ids, kind, source.line))
    weights, kind, k = [section.weight for section in config.scoring], config.combine.type, config.combine.k
    return [combine(rewards, weights, kind, k) for rewards in zip(*calibrated, strict=True)]


class RayScorer:
    """`Scorer` over a pool of scorer actors, with the judges that they ask."""

    def __init__(
        self,
        config: RunConfig,
        sources: list[ScorerSource],
        log_folder: str,
        cluster: Cluster,
        *,
        cpus: float,
        say: Say,
    ) -> None:
        self.judges = Judges(config, sources, log_folder, cluster, cpus=cpus)
        judges = self.judges.actors
        models = [
            ModelSource.of(source.model, cluster) if source.model and section.name not in judges else None
            for section, source in zip(config.scoring, sources, strict=True)
        ]
        gpus = config.cluster.scorers.gpus
        actor = ray.remote(ScorerActor).options(
            num_cpus=cpus, num_gpus=gpus, max_concurrency=2, runtime_env=runtime_env(1, gpu=gpus > 0)
        )
        self.pool = Pool(
            "scorer",
            lambda i: actor.remote(f"scorer-{i}", config, sources, models, log_folder, judges),
            config.cluster.scorers.min,
            timeout_s=config.limits.score_timeout_s,
            start_timeout_s=config.limits.start_timeout_s,
            say=say,
        )

    def ready(self) -> list[dict[str, Any]]:
        """Wait until judges and scorers answer; returns their descriptions."""
        return [*self.judges.ready(), *self.pool.ready()]

    def close(self) -> None:
        self.pool.close()
        self.judges.close()

    def score(self, sampled: Iterable[SampledShard]) -> Iterator[ScoredShard]:
        for item, rows in self.pool.map("score", sampled, lambda item: (item.shard.prompts, item.samples)):
            yield ScoredShard(item.shard, rows)
