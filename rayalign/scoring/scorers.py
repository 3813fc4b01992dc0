"""From config sections to scoring backends, and all scorers of a config as one; in a scorer actor or any process.

local scorers ─► services ─► the scorer with `ask`, about what the others are undecided on ─► one reward per answer
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rayalign.config.rewards import (
    AnswerScoring,
    ConstraintsScoring,
    FittedCalibration,
    RewardModelScoring,
    RuleScoring,
    SimilarityScoring,
    UnitTestScoring,
)
from rayalign.config.scoring import ScorerSettings, Scoring, may_differ
from rayalign.config.services import JudgeScoring, RemoteScoring
from rayalign.records import NOT_ASKED, NOT_SAMPLED, Prompt, Repeat, Sample, Score, ScoredSample
from rayalign.scoring.answer import AnswerScorer
from rayalign.scoring.asking import ask_backend
from rayalign.scoring.backend import Backend
from rayalign.scoring.calibration import calibrate
from rayalign.scoring.combine import Rewards, combine, combine_asking, undecided
from rayalign.scoring.constraints import ConstraintsScorer
from rayalign.scoring.judges.function_judge import FunctionJudge
from rayalign.scoring.rules.file import RuleSource, compile_rule
from rayalign.scoring.rules.scorer import IsolatedRuleScorer, RuleScorer
from rayalign.scoring.service_scorers import Service, build_service, calls_a_service
from rayalign.scoring.services.cache import repeated
from rayalign.scoring.sources import ScorerSource
from rayalign.scoring.trial import FEW, try_backend


def build_backend(
    section: Scoring, source: ScorerSource, settings: ScorerSettings, run_cache: Path | None = None
) -> Backend | Service:
    """The backend of a config section.

    Args:
        run_cache: folder for the results of services whose section names none.

    Raises:
        RayalignError: what it needs is not to be had on this node.
    """
    match section:
        case RuleScoring():
            assert source.rule is not None
            return _rule(section, source.rule)
        case AnswerScoring():
            return AnswerScorer(section)
        case ConstraintsScoring():
            return ConstraintsScorer(section)
        case UnitTestScoring():
            from rayalign.scoring.sandbox.unit_test import UnitTestScorer

            return UnitTestScorer(section)
        case RewardModelScoring():
            from rayalign.scoring.models.reward_model import RewardModelScorer

            assert source.model is not None and source.model_sha256 is not None
            return RewardModelScorer(section, source.model, source.model_sha256, settings.device, source.date)
        case SimilarityScoring():
            from rayalign.scoring.models.similarity import SimilarityScorer

            assert source.model is not None and source.model_sha256 is not None
            return SimilarityScorer(section, source.model, source.model_sha256, settings.device)
        case JudgeScoring(transport="demo"):
            assert source.rule is not None
            return FunctionJudge(section.name, source.rule.version, compile_rule(source.rule))
        case JudgeScoring() | RemoteScoring():
            return build_service(section, source, settings, run_cache)


def _rule(section: RuleScoring, source: RuleSource) -> Backend:
    options: dict[str, Any] = {"batch": section.batch, "concurrency": section.concurrency}
    if section.timeout_s is not None:
        return IsolatedRuleScorer(section.name, source, timeout_s=section.timeout_s, **options)
    return RuleScorer(section.name, source.version, compile_rule(source), **options)


class Scorers:
    """All scorers of a config, built once.

    Args:
        settings: a run's (`RunConfig.scorer_settings`), or those of a file of scorers.
        sources: what they read, one per scorer.
        run_cache: as for `build_backend`.

    Raises:
        RayalignError: what one of them needs is not to be had on this node.
    """

    def __init__(
        self, settings: ScorerSettings, sources: Sequence[ScorerSource], run_cache: Path | None = None
    ) -> None:
        self._settings, self._sources = settings, sources
        with ExitStack() as built:
            self._backends: list[Backend | Service] = []
            for section, source in zip(settings.scoring, sources, strict=True):
                self._backends.append(build_backend(section, source, settings, run_cache))
                built.callback(self._backends[-1].close)
            self._built = built.pop_all()
        # What the asked scorer is asked about hangs on all others; services get the time that local scorers leave.
        self._order = sorted(
            range(len(self._backends)),
            key=lambda place: (
                settings.scoring[place].ask is not None,
                isinstance(self._backends[place], Service),
                place,
            ),
        )

    @property
    def versions(self) -> dict[str, str]:
        """By name."""
        return {backend.name: backend.version for backend in self._backends}

    def close(self) -> None:
        """End what the backends started: child processes, event loops, connections and caches."""
        self._built.close()

    def try_out(self, prompts: Sequence[Prompt], within_s: float) -> None:
        """Try those that nobody has tried before them: not rules, and not services, which answer to the driver.

        Args:
            prompts: see `try_backend`.
            within_s: time of each judge and prompt.

        Raises:
            ConfigError: one of them gives nothing but failures.
        """
        for section, backend in zip(self._settings.scoring, self._backends, strict=True):
            if not isinstance(section, RuleScoring) and not calls_a_service(section):
                try_backend(section, backend, prompts, FEW, within_s)

    def score(
        self,
        prompts: Sequence[Prompt],
        samples: Sequence[Sample],
        within_s: float | None = None,
        repeat: Repeat | None = None,
    ) -> list[ScoredSample]:
        """Every sample with the scores of all backends, as they gave them, and the reward they combine to.

        Args:
            prompts: at least those that the samples answer, in any order.
            within_s: time that services have until they give up; what local scorers take comes off it, and each
                service gets an equal part of what is then left.
            repeat: ask only the scorers that may reply otherwise than they did, and these anew.
        """
        deadline = None if within_s is None else time.monotonic() + within_s
        by_id = {prompt.id: prompt for prompt in prompts}
        owners = [by_id[sample.prompt_id] for sample in samples]
        ids = [sample.prompt_id for sample in samples]
        columns: list[list[Score]] = [[] for _ in self._backends]
        for step, place in enumerate(self._order):
            if repeat is not None and not may_differ(self._settings.scoring[place]):
                columns[place] = [row.scores[place] for row in repeat.rows]
                continue
            wanted = [i for i in self._wanted(place, ids, columns) if samples[i].finish_reason != "failed"]
            left_s = None if deadline is None else self._left_s(deadline, step)
            asked = [owners[i] for i in wanted], [samples[i] for i in wanted]
            with repeated(repeat.number if repeat is not None else 0):
                scores = ask_backend(self._backends[place], *asked, left_s)
            columns[place] = self._spread(place, samples, wanted, scores)
        rewards = combine_columns(self._settings, self._sources, ids, columns)
        rows = zip(samples, rewards, *columns, strict=True)
        return [ScoredSample(sample, list(scores), reward) for sample, reward, *scores in rows]

    def _wanted(self, place: int, ids: Sequence[str], columns: Sequence[Sequence[Score]]) -> list[int]:
        """Places of the answers that a scorer is asked about."""
        ask = self._settings.scoring[place].ask
        if ask is None:
            return list(range(len(ids)))
        others, _ = _others(self._settings, self._sources, ids, columns)
        return undecided(others, ask.differ_by)

    def _left_s(self, deadline: float, step: int) -> float:
        services = sum(isinstance(self._backends[place], Service) for place in self._order[step:])
        return max(0.0, deadline - time.monotonic()) / max(1, services)

    def _spread(
        self, place: int, samples: Sequence[Sample], wanted: Sequence[int], scores: Sequence[Score]
    ) -> list[Score]:
        """One score per answer, of those that were not asked about too."""
        name, version = self._backends[place].name, self._backends[place].version
        column = [
            Score(name, version, "abstain", reason=NOT_SAMPLED if sample.finish_reason == "failed" else NOT_ASKED)
            for sample in samples
        ]
        for i, score in zip(wanted, scores, strict=True):
            column[i] = score
        return column


def combine_columns(
    settings: ScorerSettings,
    sources: Sequence[ScorerSource],
    prompt_ids: Sequence[str],
    columns: Sequence[Sequence[Score]],
) -> list[float | None]:
    """[scorers][answers] scores -> one reward per answer: each scorer calibrated, then combined."""
    kind, k = settings.combine.type, settings.combine.k
    asked = next((place for place, section in enumerate(settings.scoring) if section.ask is not None), None)
    if asked is None:
        calibrated = [_calibrated(*parts, prompt_ids) for parts in zip(settings.scoring, sources, columns, strict=True)]
        weights = [section.weight for section in settings.scoring]
        return [combine(rewards, weights, kind, k) for rewards in zip(*calibrated, strict=True)]
    section = settings.scoring[asked]
    assert section.ask is not None
    others, weights = _others(settings, sources, prompt_ids, columns)
    deciding = _calibrated(section, sources[asked], columns[asked], prompt_ids)
    return combine_asking(others, weights, deciding, undecided(others, section.ask.differ_by), kind, k)


def _others(
    settings: ScorerSettings,
    sources: Sequence[ScorerSource],
    prompt_ids: Sequence[str],
    columns: Sequence[Sequence[Score]],
) -> tuple[list[Rewards], list[float]]:
    """Calibrated rewards and weights of the scorers that count and have no `ask`."""
    parts = [p for p in zip(settings.scoring, sources, columns, strict=True) if p[0].ask is None and p[0].weight]
    return [_calibrated(*part, prompt_ids) for part in parts], [section.weight for section, *_ in parts]


def _calibrated(
    section: Scoring, source: ScorerSource, column: Sequence[Score], prompt_ids: Sequence[str]
) -> list[float | None]:
    kind = section.calibration.type if isinstance(section.calibration, FittedCalibration) else section.calibration
    return calibrate([score.reward for score in column], prompt_ids, kind, source.line)
