"""Scorers that give rewards on the spot: rules, answers, constraints, unit tests, reward models, similarity."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rayalign.config.base import NotNegative, Positive, Section

Weight = Annotated[float, Field(allow_inf_nan=False)]
FieldName = Annotated[str, Field(min_length=1)]


class FittedCalibration(Section):
    """A line from raw reward to target, fitted on a file of measured pairs."""

    type: Literal["linear"]
    file: Annotated[str, Field(min_length=1)]
    """JSONL file of rows with `raw` and `target`."""


Calibration = Literal["none", "zscore", "rank"] | FittedCalibration
"""What is done to a scorer's rewards before they are combined: nothing, z-score or rank among the answers to the same
prompt, or a fitted line."""


class Ask(Section):
    """When a scorer that costs is asked."""

    differ_by: NotNegative
    """Only about answers for which the other scorers' calibrated rewards lie further apart, or one is missing."""


class RewardScoring(Section):
    """What all scorers that give rewards share."""

    weight: Weight = 1.0
    calibration: Calibration = "none"
    ask: Ask | None = None
    """Ask this scorer only where the others disagree; there its reward decides."""


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
    """Field of the prompt's metadata that holds the right answer."""
    extract: Literal["auto", "boxed", "hashes", "last_number"] = "auto"
    """Where the answer stands: in the last `\\boxed{}`, after the last `####`, the last number, or the first of these
    that is there."""
    match: Literal["numeric", "exact"] = "numeric"
    """`numeric`: numbers by value, anything else as normalised text. `exact`: always as normalised text."""

    @property
    def name(self) -> str:
        return f"answer:{self.field}"


class ConstraintsScoring(RewardScoring):
    """The share of the constraints in the prompt's metadata that the response keeps."""

    type: Literal["constraints"]
    field: FieldName = "constraints"
    """Field of the prompt's metadata that holds a list of constraints; IFEval's own fields are read too."""
    all: bool = False
    """1.0 only where all are kept, else 0.0."""
    loose: bool = False
    """Forgive a first and a last line, and asterisks, as IFEval's loose accuracy does."""

    @property
    def name(self) -> str:
        return f"constraints:{self.field}"


class UnitTestScoring(RewardScoring):
    """Runs the response's Python code against the prompt's tests in a sandbox."""

    type: Literal["unit_test"]
    field: FieldName = "tests"
    """Field of the prompt's metadata that holds a list of Python test snippets, or one."""
    reward: Literal["share", "all"] = "share"
    """Share of the tests that pass, or 1.0 only where all do."""
    timeout_s: Positive = 10.0
    """Wall-clock limit for all tests of one response."""
    memory_mb: Annotated[int, Field(ge=64)] = 1024
    file_mb: Annotated[int, Field(ge=0)] = 16
    processes: Annotated[int, Field(ge=1)] = 16
    workers: Annotated[int, Field(ge=1)] = 1
    """How many sandboxes run at once."""
    network: Literal["none", "host"] = "none"
    """`none` refuses to start where the machine cannot cut the network off; `host` leaves it on, where nothing else is
    possible and the code is trusted."""

    @property
    def name(self) -> str:
        return f"unit_test:{self.field}"


class ModelScoring(RewardScoring):
    """What the scorers that run a model of their own in a forward pass share."""

    model: Annotated[str, Field(min_length=1)]
    """`demo`, a local Hugging Face folder, or a hub id."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    max_tokens: Annotated[int, Field(ge=8)] | None = None
    """Longest sequence; by default the model's context. A longer one is cut, and counted."""
    tokens_per_batch: Annotated[int, Field(ge=1)] = 8192
    """Budget of one forward pass, padding included."""


class RewardModelScoring(ModelScoring):
    """A Hugging Face sequence-classification model with one label. What is too long loses the start of its prompt."""

    type: Literal["reward_model"]
    template: Literal["auto", "none"] = "auto"
    """`auto`: the tokenizer's chat template where it has one; `none`: prompt and response as plain text."""

    @property
    def name(self) -> str:
        return f"reward_model:{last_part(self.model)}"


class SimilarityScoring(ModelScoring):
    """Cosine of response and the prompt's target in an encoder's embedding. What is too long loses its end."""

    type: Literal["similarity"]
    pooling: Literal["cls", "mean"] = "cls"
    """The first token's hidden state, or the mean over all tokens."""

    @property
    def name(self) -> str:
        return f"similarity:{last_part(self.model)}"


def last_part(model: str) -> str:
    return model.rstrip("/").rpartition("/")[2]
