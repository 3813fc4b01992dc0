"""The configs of the stages around the rounds: `rayalign sft`, `rayalign reward-model` and `rayalign all`.

all:  sft ─► reward_model ─► rounds        `stage:sft` and `stage:reward_model` name what the stages before made
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rayalign.config.base import FieldName, NotNegative, Positive, Probability, Section
from rayalign.config.data import ChatTemplate
from rayalign.config.model import LoraSection
from rayalign.config.rewards import RewardModelScoring
from rayalign.config.run import RunConfig, RunSection

StageKind = Literal["sft", "reward_model"]
STAGE_PREFIX = "stage:"
NAME = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")


class StageRunSection(Section):
    name: Annotated[str, NAME] = "stage"
    dir: str = "runs"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0


class StageModelSection(Section):
    base: Annotated[str, Field(min_length=1)]
    """`demo`, `demo_untrained`, or as in a run's config."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    quantization: Literal["none", "int8", "nf4"] = "none"
    """How the frozen base weights are stored while LoRA weights are trained (bitsandbytes)."""
    full: bool = False
    """Train all weights instead of a LoRA adapter."""
    lora: LoraSection = LoraSection()
    merge: bool = True
    """Also write the base with the adapter added, as a plain model folder."""

    @property
    def makes_model(self) -> bool:
        """Whether a plain model folder comes out, not only an adapter."""
        return self.full or self.merge

    @model_validator(mode="after")
    def _full_needs_whole_weights(self) -> Self:
        if self.full and self.quantization != "none":
            raise ValueError(
                f"full: true with quantization {self.quantization}: quantised weights cannot be trained; set "
                "quantization: none, or full: false"
            )
        return self


class StageDataSection(Section):
    source: Annotated[str, Field(min_length=1)]
    """`demo`, or a dataset file."""
    format: str = "auto"
    fields: dict[FieldName, str] = Field(default_factory=dict)
    """Fields that the dataset has under names of its own: {prompt: q, chosen: good, rejected: bad}."""
    rows: Annotated[int, Field(ge=1)] | None = None
    """Rows to train on, at most; the demo world makes as many as it is asked for."""
    holdout: Annotated[int, Field(ge=1)] = 256
    """Prompts that are never trained on and that the stage is measured on."""
    template: ChatTemplate = "auto"
    """`auto` is the tokenizer's own chat template, a name one that rayalign knows; `none` is the bare text."""
    max_tokens: Annotated[int, Field(ge=2)] = 1024
    """Longer rows are left out and counted, never cut."""


class StageSchedule(Section):
    type: Literal["linear", "cosine", "constant"] = "cosine"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of all steps in which the learning rate rises."""


class StageTrainingSection(Section):
    epochs: Annotated[int, Field(ge=1)] = 1
    learning_rate: Positive = 1.0e-4
    schedule: StageSchedule = StageSchedule()
    batch: Annotated[int, Field(ge=1)] = 16
    """Rows (pairs) per optimizer step, over all workers."""
    micro_batch: Annotated[int, Field(ge=1)] | None = None
    """Rows of one forward pass; null takes all that a worker has of a step."""
    order: Literal["shuffled", "source"] = "shuffled"
    """`source` keeps the data's order (a curriculum) as far as batches of similar length allow."""
    max_grad_norm: Positive = 1.0
    weight_decay: NotNegative = 0.0
    adam_beta2: Probability = 0.999
    center_rewards: NotNegative = 0.0
    """Weight of the squared sum of a pair's rewards (reward models): keeps different prompts on one scale."""
    checkpoint_steps: Annotated[int, Field(ge=1)] = 200
    workers: Annotated[int, Field(ge=1)] = 1
    threads: Annotated[int, Field(ge=1)] = 1
    """CPU threads, and logical CPUs, of each worker."""
    gpus: Annotated[int, Field(ge=0, le=1)] = 0
    """GPUs of each worker."""

    @model_validator(mode="after")
    def _batches_divide(self) -> Self:
        if self.batch % self.workers:
            raise ValueError(f"batch {self.batch} cannot be shared out over {self.workers} workers; make it a multiple")
        if self.micro_batch and (self.batch // self.workers) % self.micro_batch:
            raise ValueError(
                f"micro_batch {self.micro_batch} does not divide a worker's {self.batch // self.workers} rows of a step"
            )
        return self


class StageLimits(Section):
    start_timeout_s: Positive = 900
    """Limit until the first step, and from one step to the next."""


class StageSection(Section):
    """What one training stage needs, but for where it writes."""

    model: StageModelSection
    data: StageDataSection
    training: StageTrainingSection = StageTrainingSection()
    limits: StageLimits = StageLimits()


class StageConfig(StageSection):
    """`rayalign sft CONFIG` and `rayalign reward-model CONFIG`."""

    run: StageRunSection = StageRunSection()


class AllConfig(Section):
    """`rayalign all CONFIG`: the stages in order, each in a folder of its own in `run.dir`/`run.name`."""

    run: StageRunSection = StageRunSection(name="all")
    sft: StageSection | None = None
    reward_model: StageSection | None = None
    rounds: RunConfig

    @model_validator(mode="after")
    def _stages_exist(self) -> Self:
        run, default = self.rounds.run, RunSection()
        if placed := [name for name in ("name", "dir", "seed") if getattr(run, name) != getattr(default, name)]:
            raise ValueError(
                f"rounds.run.{placed[0]}: all stages share one folder and seed; set run.{placed[0]} instead"
            )
        for where, value, allowed in self._references():
            if value.startswith(STAGE_PREFIX) and value not in allowed:
                raise ValueError(
                    f"{where}: {value} is not there yet; "
                    + (f"use {' or '.join(allowed)}" if allowed else "no stage before it makes one")
                )
        return self

    def _references(self) -> list[tuple[str, str, list[str]]]:
        """(key, value, what it may refer to) of each key that may name an earlier stage's model."""
        policy, reward = (
            [f"{STAGE_PREFIX}{name}"] if stage is not None and stage.model.makes_model else []
            for name, stage in (("sft", self.sft), ("reward_model", self.reward_model))
        )
        found = [("rounds.model.base", self.rounds.model.base, policy)]
        found += [
            (f"rounds.scoring.{place}.model", scoring.model, reward)
            for place, scoring in enumerate(self.rounds.scoring)
            if isinstance(scoring, RewardModelScoring)
        ]
        if self.sft is not None:
            found.append(("sft.model.base", self.sft.model.base, []))
        if self.reward_model is not None:
            found.append(("reward_model.model.base", self.reward_model.model.base, policy))
        return found
