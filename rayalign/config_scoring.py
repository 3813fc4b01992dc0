"""The scoring backends of a run, a list under `scoring`, each told apart by its `type`; and how they combine."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rayalign.config_base import NotNegative, Positive, Section

Weight = Annotated[float, Field(allow_inf_nan=False)]
FieldName = Annotated[str, Field(min_length=1)]


class FittedCalibration(Section):
    """A line from raw reward to target, fitted on a file of measured pairs."""

    type: Literal["linear"]
    file: Annotated[str, Field(min_length=1)]
    """JSONL with `raw` and `target`."""


Calibration = Literal["none", "zscore", "rank"] | FittedCalibration
"""What is done to a scorer's rewards before they are combined: nothing, z-score or rank among the answers to the same
prompt, or a fitted line."""


class RewardScoring(Section):
    """What all scorers that give rewards share."""

    weight: Weight = 1.0
    calibration: Calibration = "none"


class RuleScoring(RewardScoring):
    """The demo world's rule, or a user's `my_file.py:score(prompt, response) -> float | None`, sync or async."""

    type: Literal["rule"]
    function: Annotated[str, Field(min_length=1)]
    batch: bool = False
    """The function gets lists (a shard's answers) and returns a list of the same length."""
    timeout_s: Positive | None = None
    """Limit per answer; with one, the function runs in a child process that crashes and endless loops cannot harm."""
    concurrency: Annotated[int, Field(ge=1)] = 32
    """How many answers an async function is asked about at once."""

    @property
    def name(self) -> str:
        return f"rule:{self.function.rpartition('/')[2]}"


class AnswerScoring(RewardScoring):
    """1.0 where the response's final answer is the prompt's, else 0.0."""

    type: Literal["answer"]
    field: FieldName = "answer"
    """Of the prompt's metadata, with the right answer."""
    extract: Literal["auto", "boxed", "hashes", "last_number"] = "auto"
    """Where the answer stands: in the last `\\boxed{}`, after the last `####`, the last number, or the first of these
    that is there."""
    match: Literal["numeric", "exact"] = "numeric"
    """`numeric`: numbers by value, anything else as normalised text. `exact`: always as normalised text."""

    @property
    def name(self) -> str:
        return f"answer:{self.field}"


class UnitTestScoring(RewardScoring):
    """Runs the response's Python code against the prompt's tests in a sandbox."""

    type: Literal["unit_test"]
    field: FieldName = "tests"
    """Of the prompt's metadata: a list of Python test snippets, or one."""
    reward: Literal["share", "all"] = "share"
    """Share of the tests that pass, or 1.0 only where all do."""
    timeout_s: Positive = 10.0
    """Wall-clock limit for all tests of one response."""
    memory_mb: Annotated[int, Field(ge=64)] = 1024
    file_mb: Annotated[int, Field(ge=0)] = 16
    processes: Annotated[int, Field(ge=1)] = 16
    workers: Annotated[int, Field(ge=1)] = 1
    """Sandboxes at once."""
    network: Literal["none", "host"] = "none"
    """`none` refuses to start where the machine cannot cut the network off; `host` leaves it on, where nothing else is
    possible and the code is trusted."""

    @property
    def name(self) -> str:
        return f"unit_test:{self.field}"


class RewardModelScoring(RewardScoring):
    """A Hugging Face sequence-classification model with one label."""

    type: Literal["reward_model"]
    model: Annotated[str, Field(min_length=1)]
    """`demo`, a local Hugging Face folder, or a hub id."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    template: Literal["auto", "none"] = "auto"
    """`auto`: the tokenizer's chat template where it has one; `none`: prompt and response as plain text."""
    max_tokens: Annotated[int, Field(ge=8)] | None = None
    """Longest sequence; by default the model's context. A longer one loses the start of its prompt, and is counted."""
    tokens_per_batch: Annotated[int, Field(ge=1)] = 8192
    """Budget of one forward pass, padding included."""

    @property
    def name(self) -> str:
        return f"reward_model:{self.model.rstrip('/').rpartition('/')[2]}"


class JudgeScoring(Section):
    """A judge that writes what is wrong; it gives judgments and no reward."""

    type: Literal["judge"]
    transport: Literal["demo"]
    """`demo`: the demo world's own judge."""
    weight: Literal[0] = 0

    @property
    def name(self) -> str:
        return f"judge:{self.transport}"


Scoring = Annotated[
    RuleScoring | AnswerScoring | UnitTestScoring | RewardModelScoring | JudgeScoring, Field(discriminator="type")
]


class CombineSection(Section):
    """How the rewards of several scorers become one."""

    type: Literal["weighted_sum", "weighted_mean", "min", "mean_minus_std"] = "weighted_sum"
    """Over the scorers whose weight is not 0; `min` and `mean_minus_std` take the weight as a factor."""
    k: NotNegative = 1.0
    """`mean_minus_std`: how many standard deviations of disagreement are taken off."""
