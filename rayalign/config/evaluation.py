"""The section `evaluation`: how a round is measured."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rayalign.config.base import Section


class GateSection(Section):
    """What happens where a round is significantly worse than the best one before it."""

    metric: str = "mean_reward"
    """`mean_reward`, `mean_reward/SCORER` or `pass_rate`."""
    action: Literal["keep", "restore_best", "stop"] = "restore_best"
    """`keep`: it is said. `restore_best`: the next round starts from the best one. `stop`: the run ends there, and
    starts from the best one when it is resumed."""


class EvaluationSection(Section):
    every: Annotated[int, Field(ge=1)] = 1
    baselines: list[Literal["round_0", "previous", "target"]] = Field(default=["round_0", "previous"])
    responses: Annotated[int, Field(ge=1)] = 4
    """Answers per held-out prompt."""
    greedy: bool = False
    """Also answer each held-out prompt once at temperature 0: `pass_rate/greedy`."""
    temperature: Annotated[float, Field(gt=0, le=10)] = 1.0
    canaries: Annotated[int, Field(ge=0)] = 8
    """Held-out prompts to which every scorer also gets answers that deserve nothing; 0 is none."""
    anchors: Annotated[int, Field(ge=0)] = 8
    """Held-out prompts of which two answers of round 0 are scored again in every evaluation; 0 is none."""
    judge_repeats: Annotated[int, Field(ge=1)] = 1
    """How many times judges and services score each held-out answer."""
    gate: GateSection | None = None
    gold: str | None = None
    """Name of the scorer that says what is true; null: the demo world's rule where it is there, else none."""
