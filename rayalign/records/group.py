"""A prompt with its answers, ready to train on, and all groups of a round."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Self

from rayalign.records.json_types import JsonObject
from rayalign.records.rows import shallow_dict

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class TrainingGroup:
    """One prompt with its K responses, ready for the learner, or the reason why it is not.

    Example:
        >>> g = TrainingGroup(prompt_id="db48538d1e904760", prompt_token_ids=[1, 17, 4], response_indices=[0, 2],
        ...                   response_token_ids=[[5, 2], [6, 2]], response_logprobs=[[-1.0, 0.0], [-2.0, 0.0]],
        ...                   rewards=[1.0, 0.0])
        >>> g.keep, TrainingGroup.from_row(g.to_row()) == g
        (True, True)
    """

    prompt_id: str
    prompt_token_ids: list[int]
    response_indices: list[int]
    """`Sample.index` of each response."""
    response_token_ids: list[list[int]]
    response_logprobs: list[list[float]]
    """The generator's raw log-probabilities, token by token."""
    rewards: list[float | None]
    """Null for a response that no reward is known of; every list of this record has one entry per response, or none
    at all where no objective needs it."""
    judgments: list[str | None] = field(default_factory=list)
    verdicts: list[str | None] = field(default_factory=list)
    """`perfect` or `flawed`; null for a response that is not trained on by its judgment."""
    judged_prompt_token_ids: list[list[int]] = field(default_factory=list)
    """The prompt that asks for a response of this judgment; empty where it is not needed."""
    criticism_prompt_token_ids: list[list[int]] = field(default_factory=list)
    """Prompt and response in a prompt that asks for the judgment (Forward Prediction)."""
    criticism_token_ids: list[list[int]] = field(default_factory=list)
    """The judgment itself, as the answer to that prompt."""
    revised_token_ids: list[list[int]] = field(default_factory=list)
    """A better response that the model wrote after it saw the judgment (ILF); empty where there is none."""
    target_token_ids: list[int] | None = None
    drop_reason: str | None = None
    """Why the group is not trained on; null where it is."""

    @property
    def keep(self) -> bool:
        return self.drop_reason is None

    def to_row(self) -> JsonObject:
        return shallow_dict(self)

    @classmethod
    def from_row(cls, row: JsonObject) -> Self:
        return cls(**row)

    @staticmethod
    def schema() -> pa.Schema:
        import pyarrow as pa

        tokens = pa.list_(pa.int32())
        return pa.schema(
            [
                ("prompt_id", pa.string()),
                ("prompt_token_ids", tokens),
                ("response_indices", tokens),
                ("response_token_ids", pa.list_(tokens)),
                ("response_logprobs", pa.list_(pa.list_(pa.float64()))),
                ("rewards", pa.list_(pa.float64())),
                ("judgments", pa.list_(pa.string())),
                ("verdicts", pa.list_(pa.string())),
                ("judged_prompt_token_ids", pa.list_(tokens)),
                ("criticism_prompt_token_ids", pa.list_(tokens)),
                ("criticism_token_ids", pa.list_(tokens)),
                ("revised_token_ids", pa.list_(tokens)),
                ("target_token_ids", tokens),
                ("drop_reason", pa.string()),
            ]
        )


@dataclass(frozen=True, slots=True)
class Groups:
    """The training groups of a round, on disk."""

    files: list[str]
    """Parquet files relative to the run folder; the order of their rows is that of the groups."""
    kept: int
    dropped: dict[str, int]
    """Groups per drop reason."""
    stats: dict[str, float] = field(default_factory=dict)
    drop_files: list[str] = field(default_factory=list)
    """Parquet files with the id and drop reason of each dropped group."""

    @classmethod
    def from_commit(cls, saved: JsonObject) -> Groups:
        """The groups that a commit names; keys that this version does not know are left out."""
        return cls(**{one.name: saved[one.name] for one in fields(cls) if one.name in saved})
