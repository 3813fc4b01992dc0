"""Sections `prompts`, `sampling`, `groups` and `samples`: what goes into a round and how it becomes groups."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rayalign.config.base import DatasetFormat, FieldName, Section

ChatTemplate = Literal["auto", "none", "alpaca", "zephyr", "openchat", "llama-2", "mistral", "chatml"]


class PromptsSection(Section):
    source: Annotated[str, Field(min_length=1)]
    """`demo`, or a dataset: a file, a folder, an object-store URI or a hub id. Offline, where held-out prompts come
    from; the same as `samples.source` holds some of the dataset's own prompts out."""
    format: DatasetFormat = "auto"
    """Format of the source; `auto` tells it from the first rows."""
    field: str = "auto"
    """Name of the field that holds the prompt; `auto` looks for messages, prompt, instruction (+ input), turns."""
    per_round: Annotated[int, Field(ge=1)] = 256
    holdout: Annotated[int, Field(ge=1)] = 256
    template: ChatTemplate = "auto"
    """`auto` is the tokenizer's own chat template; `none` gives the model the bare text."""
    max_tokens: Annotated[int, Field(ge=1)] = 512

    @model_validator(mode="after")
    def _field_of_prompts(self) -> Self:
        if self.field != "auto" and self.format not in ("auto", "prompts"):
            raise ValueError(f"format {self.format} tells where the prompt is: leave out field, or the format")
        return self


class SamplingSection(Section):
    responses: Annotated[int, Field(ge=1, le=1024)] = 8
    temperature: Annotated[float, Field(gt=0, le=10)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_tokens: Annotated[int, Field(ge=1)] = 64


class GroupsSection(Section):
    normalise: Literal["none", "center", "zscore"] = "none"
    drop_equal_rewards: bool = False
    deduplicate: bool = True


class SamplesSection(Section):
    """With it, training prompts and their responses, rewards and judgments come from a dataset."""

    source: Annotated[str, Field(min_length=1)]
    """`demo`, or a dataset's file."""
    format: DatasetFormat = "auto"
    """Which data of `demo` these are: judgments, ultrafeedback or preference."""
    fields: dict[FieldName, str] = Field(default_factory=dict)
    """Fields that the dataset has under names of its own: {prompt: q, chosen: good, rejected: bad}."""
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """Longest response, its end included; null is `sampling.max_tokens`. Longer ones are left out, never cut."""
