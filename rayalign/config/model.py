"""The model that a run trains: which base, in which numbers, and what of it is trained."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rayalign.config.base import Positive, Section

LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks that vLLM's LoRA kernels can serve."""


class LoraSection(Section):
    r: int = 16
    alpha: Positive = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: Literal["all-linear"] | list[str] = "all-linear"

    @model_validator(mode="after")
    def _servable(self) -> Self:
        if self.r not in LORA_RANKS:
            raise ValueError(f"vLLM cannot serve LoRA rank {self.r}; use one of {', '.join(map(str, LORA_RANKS))}")
        return self


class ModelSection(Section):
    base: Annotated[str, Field(min_length=1)]
    """`demo`, `smollm2`, a local Hugging Face folder, a GGUF file, or a hub id."""
    context: Annotated[int, Field(ge=1)] | None = None
    """Context length in tokens where the model's own is too short; only for models with rotary positions."""
    dtype: Literal["float32", "bfloat16", "auto"] = "float32"
    """Of the base's weights. `auto`: bfloat16 on GPUs, and on CPUs that multiply it faster; a run settles it when it
    begins."""
    quantization: Literal["none", "int8", "nf4"] = "none"
    """How the learner's frozen base weights are stored (bitsandbytes): QLoRA. The generator keeps `dtype`."""
    full: bool = False
    """Train all weights instead of a LoRA adapter."""
    lora: LoraSection = LoraSection()

    @model_validator(mode="after")
    def _all_weights_can_be_trained(self) -> Self:
        if not self.full:
            return self
        if self.quantization != "none":
            raise ValueError(
                f"full: true with quantization {self.quantization}: quantised weights cannot be trained; "
                "set quantization: none, or full: false"
            )
        if self.dtype == "bfloat16":
            raise ValueError(
                f"full: true with dtype {self.dtype}: small steps are lost in weights of that precision, "
                "so all weights are trained and served in float32; set dtype: float32"
            )
        if self.lora != LoraSection():
            raise ValueError(
                "full: true with settings of lora: there is no adapter that they could apply to; remove "
                "lora, or set full: false"
            )
        return self
