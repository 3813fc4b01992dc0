"""What all parts of the config share: the section class, number types, and numbers that move over the rounds."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from rayalign.records import JsonObject

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
MOST_ACTORS = 4096
"""Of one kind; a larger number is a slip of the finger."""
Actors = Annotated[int, Field(ge=1, le=MOST_ACTORS)]
"""How many of a kind there are."""

DatasetFormat = Literal[
    "auto",
    "prompts",
    "messages",
    "alpaca",
    "ultrafeedback",
    "preference",
    "hh-rlhf",
    "nectar",
    "ultrachat",
    "judgments",
    "shepherd",
    "critiques",
    "alpaca-eval",
    "unpaired",
]

FieldName = Literal[
    "prompt",
    "messages",
    "instruction",
    "question",
    "input",
    "system",
    "history",
    "chosen",
    "rejected",
    "completion",
    "label",
    "output",
    "response",
    "answer",
    "target",
    "completions",
    "answers",
    "judgment",
    "feedback",
    "score",
    "i_ans",
    "split",
]
"""A field of a dataset that may stand under another name."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    def to_dict(self) -> JsonObject:
        return self.model_dump(mode="json")


class RoundSchedule(Section):
    """A number that moves linearly from `start` (round 1) to `end` (round `rounds`) and stays there."""

    start: Positive
    end: Positive
    rounds: Annotated[int, Field(ge=1)]


Scheduled = Positive | RoundSchedule


def value_at(value: float | RoundSchedule, round_index: int) -> float:
    """The value of a scheduled number in a round (rounds count from 1)."""
    if not isinstance(value, RoundSchedule):
        return value
    progress = min(1.0, (round_index - 1) / max(1, value.rounds - 1))
    return value.start + (value.end - value.start) * progress
