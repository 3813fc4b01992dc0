"""The seven nouns: everything that crosses a process is one of these frozen records.

Row records (`Prompt`, `Sample`, `ScoredSample`, `TrainingGroup`) have one pyarrow schema each and are stored as
Parquet; `to_row` and `from_row` are exact inverses of each other. A failed score is missing, never a number.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Self

from rayalign.records.json_types import JsonObject

if TYPE_CHECKING:
    import pyarrow as pa
    from _typeshed import DataclassInstance


IGNORED = -100
"""Label of a token that is not learned."""
FROM_DATASET = -1
"""`Sample.adapter_version` of a response that no adapter of the run produced."""
FinishReason = Literal["stop", "length", "failed"]
"""`failed`: there is no answer, as generators died of it again and again."""
ScoreStatus = Literal["ok", "abstain", "error", "timeout"]
Verdict = Literal["perfect", "flawed"]
Message = dict[str, str]
"""A chat message: {"role": "user", "content": "..."}."""


def prompt_id(messages: list[Message]) -> str:
    """Identity of a prompt: the first 16 hex digits of the SHA-256 of its messages.

    >>> prompt_id([{"role": "user", "content": "List two animals."}])
    'db48538d1e904760'
    """
    canonical = json.dumps([[m["role"], m["content"]] for m in messages], ensure_ascii=False)
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt, tokenised once with the model's chat template.

    Example:
        >>> p = Prompt(id="db48538d1e904760", messages=[{"role": "user", "content": "List two animals."}],
        ...            token_ids=[1, 17, 4, 9, 2])
        >>> Prompt.from_row(p.to_row()) == p
        True
    """

    id: str
    """Hash of the content (`prompt_id`)."""
    messages: list[Message]
    """The conversation up to the turn that the model answers."""
    token_ids: list[int]
    """The messages in the chat template, generation header included."""
    target: str | None = None
    """The SFT answer, where the source has one."""
    metadata: JsonObject = field(default_factory=dict)
    """Whatever else the source says of this prompt (JSON values); scorers may read it."""

    @property
    def text(self) -> str:
        """Content of the last message, what a scorer's `prompt` argument gets."""
        return self.messages[-1]["content"]

    def to_row(self) -> JsonObject:
        return {**shallow_dict(self), "metadata": json.dumps(self.metadata, sort_keys=True)}

    @classmethod
    def from_row(cls, row: JsonObject) -> Self:
        return cls(**{**row, "metadata": json.loads(row["metadata"])})

    @staticmethod
    def schema() -> pa.Schema:
        import pyarrow as pa

        return pa.schema(
            [
                ("id", pa.string()),
                ("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
                ("token_ids", pa.list_(pa.int32())),
                ("target", pa.string()),
                ("metadata", pa.string()),
            ]
        )


@dataclass(frozen=True, slots=True)
class Sample:
    """One response of the model to one prompt.

    Example:
        >>> s = Sample(prompt_id="db48538d1e904760", index=0, text="cat, dog.", token_ids=[5, 6, 7, 2],
        ...            logprobs=[-0.5, -0.25, -0.125, 0.0], finish_reason="stop", adapter_version=0, seed=42)
        >>> Sample.from_row(s.to_row()) == s
        True
    """

    prompt_id: str
    index: int
    """0..K-1; (`prompt_id`, `index`) is unique in a round."""
    text: str
    """The response without special tokens and without what the chat template writes before every answer, for scorers
    and people; never re-tokenised for training."""
    token_ids: list[int]
    """The tokens as sampled; the EOS is here only if the model produced it."""
    logprobs: list[float]
    """Raw log-probabilities of `token_ids` (temperature 1, nats), from the generator; empty for a dataset's answer."""
    finish_reason: FinishReason
    adapter_version: int
    """Version of the adapter that produced it; 0 is the base model, `FROM_DATASET` none of the run's."""
    seed: int

    def to_row(self) -> JsonObject:
        return shallow_dict(self)

    @classmethod
    def from_row(cls, row: JsonObject) -> Self:
        return cls(**row)

    @staticmethod
    def schema() -> pa.Schema:
        import pyarrow as pa

        return pa.schema(
            [
                ("prompt_id", pa.string()),
                ("index", pa.int32()),
                ("text", pa.string()),
                ("token_ids", pa.list_(pa.int32())),
                ("logprobs", pa.list_(pa.float64())),
                ("finish_reason", pa.string()),
                ("adapter_version", pa.int32()),
                ("seed", pa.int64()),
            ]
        )


NOT_SAMPLED, NOT_SCORED = "not sampled: generators died of it", "not scored: scorers died of it"
"""`Score.reason` of answers that are set aside (`limits.poisoned_shards`)."""
NOT_ASKED = "not asked: the others agree"
"""`Score.reason` where a scorer is asked only about answers on which the others disagree."""


@dataclass(frozen=True, slots=True)
class Score:
    """What one scorer said of one response. `reward` and `judgment` are null unless `status` is "ok".

    Example:
        >>> Score(scorer="rule:demo", scorer_version="1", status="ok", reward=0.5).reward
        0.5
    """

    scorer: str
    scorer_version: str
    status: ScoreStatus
    reward: float | None = None
    judgment: str | None = None
    verdict: Verdict | None = None
    preferred_over: int | None = None
    """Index of the sample of the same prompt that this one was preferred over."""
    aspects: dict[str, float] = field(default_factory=dict)
    latency_s: float = 0.0
    cost: float = 0.0
    """US dollars; 0 for local scorers."""
    reason: str | None = None
    """Why the status is not "ok", in words."""

    def to_row(self) -> JsonObject:
        return {**shallow_dict(self), "aspects": json.dumps(self.aspects, sort_keys=True)}

    @classmethod
    def from_row(cls, row: JsonObject) -> Self:
        return cls(**{**row, "aspects": json.loads(row["aspects"])})

    @staticmethod
    def struct() -> pa.DataType:
        import pyarrow as pa

        return pa.struct(
            [
                ("scorer", pa.string()),
                ("scorer_version", pa.string()),
                ("status", pa.string()),
                ("reward", pa.float64()),
                ("judgment", pa.string()),
                ("verdict", pa.string()),
                ("preferred_over", pa.int32()),
                ("aspects", pa.string()),
                ("latency_s", pa.float64()),
                ("cost", pa.float64()),
                ("reason", pa.string()),
            ]
        )


@dataclass(frozen=True, slots=True)
class ScoredSample:
    """A sample, its scores, and the combined reward (null if no scorer gave one).

    Stored in two Parquet files of the same rows: `samples/` (`Sample.schema`) and `scores/` (`ScoredSample.schema`,
    which holds the keys and everything but the sample).
    """

    sample: Sample
    scores: list[Score]
    reward: float | None

    def to_row(self) -> JsonObject:
        return {
            "prompt_id": self.sample.prompt_id,
            "index": self.sample.index,
            "reward": self.reward,
            "scores": [score.to_row() for score in self.scores],
        }

    @classmethod
    def from_row(cls, row: JsonObject, sample: Sample) -> Self:
        """Join a stored score row to its sample.

        Raises:
            ValueError: the row belongs to another sample.
        """
        if (row["prompt_id"], row["index"]) != (sample.prompt_id, sample.index):
            raise ValueError(f"score of {row['prompt_id']}/{row['index']} beside {sample.prompt_id}/{sample.index}")
        return cls(sample, [Score.from_row(score) for score in row["scores"]], row["reward"])

    @staticmethod
    def schema() -> pa.Schema:
        import pyarrow as pa

        return pa.schema(
            [
                ("prompt_id", pa.string()),
                ("index", pa.int32()),
                ("reward", pa.float64()),
                ("scores", pa.list_(Score.struct())),
            ]
        )


def shallow_dict(record: DataclassInstance) -> JsonObject:
    """Field names to values, without the deep copies of `dataclasses.asdict`."""
    return {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}
