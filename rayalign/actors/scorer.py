"""Scorers: actors that host the scoring backends, behind the `Scorer` protocol."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import ray

from rayalign.actors.pool import Pool, Say
from rayalign.actors.process import describe_process, redirect_output, runtime_env
from rayalign.config import RunConfig
from rayalign.config_scoring import JudgeScoring, Scoring
from rayalign.records import Prompt, Sample, ScoredSample
from rayalign.scoring.backend import Backend
from rayalign.scoring.combine import weighted_sum
from rayalign.scoring.judge import FunctionJudge
from rayalign.scoring.llm_judge import LLMJudge
from rayalign.scoring.network import Source, build_service, calls_a_service
from rayalign.scoring.remote import RemoteScorer
from rayalign.scoring.rubrics import RubricSource
from rayalign.scoring.rule import RuleScorer, RuleSource, compile_rule, rule_version
from rayalign.stages import SampledShard, ScoredShard


def build_backend(section: Scoring, source: Source | None, config: RunConfig) -> Backend:
    if calls_a_service(section):
        return build_service(section, source if isinstance(source, RubricSource) else None, config)
    if isinstance(source, RuleSource):
        return RuleScorer(section.name, source.version, compile_rule(source))
    from rayalign.demo import world

    text = inspect.getsource(world)
    if isinstance(section, JudgeScoring):
        return FunctionJudge(section.name, rule_version("judge", text), world.judge)
    return RuleScorer(section.name, rule_version("score", text), world.score)


class ScorerActor:
    """Hosts all scorers of the config; models and files are loaded once."""

    def __init__(self, name: str, config: RunConfig, sources: list[Source | None], log_folder: str) -> None:
        redirect_output(log_folder, name)
        self._name = name
        self._backends = [build_backend(s, source, config) for s, source in zip(config.scoring, sources, strict=True)]
        self._weights = [section.weight for section in config.scoring]

    def describe(self) -> dict[str, Any]:
        versions = {backend.name: backend.version for backend in self._backends}
        return {**describe_process(self._name), "scorers": versions}

    def close(self) -> None:
        for backend in self._backends:
            if isinstance(backend, LLMJudge | RemoteScorer):
                backend.close()

    def score(self, prompts: Sequence[Prompt], samples: Sequence[Sample]) -> list[ScoredSample]:
        """Every sample with the scores of all backends and their weighted sum."""
        by_id = {prompt.id: prompt for prompt in prompts}
        owners = [by_id[sample.prompt_id] for sample in samples]
        columns = [backend.score(owners, samples) for backend in self._backends]
        rows = zip(samples, *columns, strict=True)
        return [ScoredSample(sample, list(scores), weighted_sum(scores, self._weights)) for sample, *scores in rows]


class RayScorer:
    """`Scorer` over a pool of scorer actors."""

    def __init__(
        self, config: RunConfig, sources: list[Source | None], log_folder: str, *, cpus: float, say: Say
    ) -> None:
        gpus = config.cluster.scorers.gpus
        actor = ray.remote(ScorerActor).options(
            num_cpus=cpus, num_gpus=gpus, max_concurrency=2, runtime_env=runtime_env(1, gpu=gpus > 0)
        )
        self.pool = Pool(
            "scorer",
            lambda i: actor.remote(f"scorer-{i}", config, sources, log_folder),
            config.cluster.scorers.min,
            timeout_s=config.limits.score_timeout_s,
            start_timeout_s=config.limits.start_timeout_s,
            say=say,
        )

    def score(self, sampled: Iterable[SampledShard]) -> Iterator[ScoredShard]:
        for item, rows in self.pool.map("score", sampled, lambda item: (item.shard.prompts, item.samples)):
            yield ScoredShard(item.shard, rows)
