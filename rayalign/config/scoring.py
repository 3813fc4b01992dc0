"""The scoring backends of a run, a list under `scoring`, each told apart by its `type`; and how they combine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rayalign.config.base import NotNegative, Section
from rayalign.config.rewards import (
    AnswerScoring,
    ModelScoring,
    RewardModelScoring,
    RuleScoring,
    SimilarityScoring,
    UnitTestScoring,
)
from rayalign.config.services import JudgeScoring, RemoteScoring

Scoring = Annotated[
    RuleScoring
    | AnswerScoring
    | UnitTestScoring
    | RewardModelScoring
    | SimilarityScoring
    | JudgeScoring
    | RemoteScoring,
    Field(discriminator="type"),
]


def model_of(section: Scoring) -> str | None:
    """`demo`, a folder or a hub id: the model that the run itself loads for a scorer; None where it loads none."""
    if isinstance(section, ModelScoring) or (isinstance(section, JudgeScoring) and judges_of([section])):
        return section.model
    return None


def judges_of(sections: Sequence[Scoring]) -> list[JudgeScoring]:
    """The judges whose models the run holds in actors of their own."""
    return [section for section in sections if isinstance(section, JudgeScoring) and section.transport == "vllm"]


VERIFIERS = ("rule", "answer", "unit_test")
"""Types of scorers whose score of 1 says that an answer is right."""


def verifiers_of(sections: Sequence[Scoring]) -> set[str]:
    """Names of the scorers whose reward of 1 says that an answer is right."""
    return {section.name for section in sections if section.type in VERIFIERS}


def may_differ(section: Scoring) -> bool:
    """Whether a scorer, asked about the same answer again, may reply otherwise: judges and services."""
    return isinstance(section, JudgeScoring | RemoteScoring)


def check_scorers(sections: Sequence[Scoring]) -> None:
    """Refuse scorers of one config that do not go together.

    Raises:
        ValueError: naming them.
    """
    names = [section.name for section in sections]
    if twins := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"two scorers are called {twins[0]}, which would mix their scores; rename one")
    asking = [section for section in sections if section.ask is not None]
    if len(asking) > 1:
        raise ValueError(f"{asking[0].name} and {asking[1].name} both have ask: only one scorer can decide")
    for section in asking:
        if problem := _why_not_ask(section, [other for other in sections if other is not section and other.weight]):
            raise ValueError(f"{section.name} has ask: {problem}")


def _why_not_ask(section: Scoring, others: Sequence[Scoring]) -> str | None:
    if isinstance(section, JudgeScoring) and section.template != "rating":
        return {
            "cut": "template: cut gives no reward that could decide; use template: rating",
            "pairwise": "template: pairwise compares all answers to a prompt and would lack those that are not asked "
            "about; use template: rating",
        }[section.template]
    if section.calibration in ("zscore", "rank"):
        return (
            f"calibration: {section.calibration} needs rewards of all answers to a prompt, and only some are asked "
            "about; use {type: linear, file: F}"
        )
    if section.weight != 1:
        return "where the others disagree its reward decides alone, so that a weight has no meaning: leave weight out"
    if len(others) < 2:
        return "it takes two other scorers with a weight to disagree; add one, or remove ask"
    if any(other.weight < 0 for other in others):
        return "a scorer of negative weight is a penalty, which neither agrees nor disagrees; remove it, or ask"
    return None


class CombineSection(Section):
    """How the rewards of several scorers become one."""

    type: Literal["weighted_sum", "weighted_mean", "min", "mean_minus_std"] = "weighted_sum"
    """Taken over the scorers whose weight is not 0; `min` and `mean_minus_std` take the weight as a factor."""
    k: NotNegative = 1.0
    """`mean_minus_std`: how many standard deviations of disagreement are taken off."""


@dataclass(frozen=True, slots=True)
class ScorerSettings:
    """What scorers read of a config."""

    scoring: Sequence[Scoring]
    combine: CombineSection
    seed: int
    """The run's: the same seed asks a judge the same questions."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where scorers' own models stand."""
    sharers: int = 1
    """Processes that share the limits of a service."""


class ScorerFile(Section):
    """What `rayalign score` reads: scorers without a run."""

    scoring: Annotated[list[Scoring], Field(min_length=1)]
    combine: CombineSection = CombineSection()

    @model_validator(mode="after")
    def _scorers_fit(self) -> Self:
        check_scorers(self.scoring)
        return self
