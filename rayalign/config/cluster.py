"""Sections `cluster` and `limits`: who runs where, with how many replicas, and how long each may take."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rayalign.config.base import Positive, Probability, Section


class ScorerPool(Section):
    min: Annotated[int, Field(ge=1)] = 1
    max: Annotated[int, Field(ge=1)] = 1
    gpus: Annotated[float, Field(ge=0)] = 0

    idle_s: Positive | None = None
    """Seconds without work after which those beyond `min` are sent away, until there is work again; null keeps them."""

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.max < self.min:
            raise ValueError(f"max ({self.max}) is below min ({self.min}): raise max")
        return self


class GeneratorPool(ScorerPool):
    tensor_parallel: Literal[1] = 1


class LearnerPool(Section):
    gpus: Annotated[float, Field(ge=0)] = 0


class JudgePool(Section):
    gpus: Annotated[float, Field(ge=0)] = 0
    """GPUs of each judge of `transport: vllm`; below 1, judges share a GPU's memory by their fractions."""


class ClusterSection(Section):
    placement: Literal["auto", "colocated", "disaggregated"] = "auto"
    """`colocated`: generators and learner take turns on the same cores. `disaggregated`: each on nodes of its own.
    `auto`: disaggregated where the cluster has nodes for both."""
    generators: GeneratorPool = GeneratorPool()
    scorers: ScorerPool = ScorerPool()
    judges: JudgePool = JudgePool()
    learner: LearnerPool = LearnerPool()

    @model_validator(mode="after")
    def _gpu_placement(self) -> Self:
        if self.placement == "colocated" and self.generators.gpus > 0 and self.learner.gpus > 0:
            raise ValueError("generator and learner cannot share GPUs in this version: set placement: disaggregated")
        return self


class LimitsSection(Section):
    score_errors: Probability = 0.02
    sample_timeout_s: Positive = 600
    score_timeout_s: Positive = 120
    sync_timeout_s: Positive = 300
    update_timeout_s: Positive = 3600
    start_timeout_s: Positive = 900
