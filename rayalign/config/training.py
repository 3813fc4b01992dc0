"""Sections `training`, `sync` and `loop`: how the learner steps and how its result is served."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from rayalign.config.base import Actors, Positive, Scheduled, Section, value_at


def _all_or_some(value: object, check: ValidatorFunctionWrapHandler) -> bool | int:
    try:
        return check(value)
    except ValidationError:
        raise ValueError(f"found {value!r}; it must be true, false or a number of layers") from None


Layers = Annotated[bool | Annotated[int, Field(ge=0)], WrapValidator(_all_or_some)]
"""All, none, or so many of a model's layers."""


class LearningRateSchedule(Section):
    type: Literal["linear", "cosine", "constant"] = "linear"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of a round's steps in which the learning rate rises."""
    round_decay: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Factor on the learning rate from one round to the next."""


class TrainingSection(Section):
    epochs: Annotated[int, Field(ge=1)] = 1
    learning_rate: Scheduled = 3.0e-3
    schedule: LearningRateSchedule = LearningRateSchedule()
    group_batch: Annotated[int, Field(ge=1)] = 8
    """Groups (prompts) per optimizer step, over all workers."""
    tokens_per_micro_batch: Annotated[int, Field(ge=1)] = 4096
    max_grad_norm: Positive = 1.0
    zero_stage: Literal[1, 2, 3] = 1
    """DeepSpeed ZeRO: what is shared out over the workers. 1: optimizer state, 2: gradients too, 3: parameters too."""
    offload: list[Literal["optimizer", "parameters"]] = Field(default=[])
    """What a worker with a GPU keeps in host memory: AdamW's state, which is then stepped there, and ZeRO-3's parts of
    the parameters. On CPU they are there anyway."""
    reference_logps: Literal["auto", "learner", "generator"] = "auto"
    """Who gives the reference log-probabilities: the learner in a pass of its own, or the generator, which has them
    from sampling; the round's report then says how far the two are apart. `auto`: the generator where it can and the
    two are as good as equal, which every round tries on some groups."""
    gradient_checkpointing: Layers = False
    """Remake layers' activations in the backward pass, of all or of so many, evenly spread: less memory, and of all
    about a third more work."""
    optimizer: Literal["adamw", "paged_adamw"] = "adamw"
    """`paged_adamw` is bitsandbytes' 32-bit AdamW, whose state may leave the GPU."""
    workers: Actors = 1
    keep_optimizer: Literal[False] = False

    def most_steps(self, groups: int) -> int:
        """Optimizer steps of a round of so many groups."""
        return self.epochs * -(-groups // self.group_batch)

    def remade(self, layers: int) -> int:
        """Of a model's layers, those whose activations are remade in the backward pass."""
        asked = self.gradient_checkpointing
        return min(layers, asked) if not isinstance(asked, bool) else layers * asked

    def peak_rate(self, round_index: int) -> float:
        """The highest learning rate of a round's steps."""
        return value_at(self.learning_rate, round_index) * self.schedule.round_decay ** (round_index - 1)


class SyncSection(Section):
    mode: Literal["auto", "adapter", "merged"] = "auto"
    """How the generator gets a new adapter: as a LoRA beside the base, or added to the base's weights. `auto` is merged
    for float32 on CPU, where it decodes faster and is exact, else adapter."""
    tolerance: Positive = 0.02
    """Nats per token by which the canary gap may exceed the gap at version 0."""


class LoopSection(Section):
    max_staleness: Literal[0, 1] = 0
    """1: the next round's responses are sampled while a round trains, by the adapter that this round starts from."""
    evaluate_beside: bool | Literal["auto"] = "auto"
    """Whether a round is evaluated while the next one is sampled. `auto`: where generators have GPUs of their own."""
    deterministic: bool = False
