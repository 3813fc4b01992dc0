"""What a benchmark asks a judge, and what the judge says."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Self

from rayalign.records.json_types import JsonObject
from rayalign.records.rows import Message, ScoreStatus, shallow_dict

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class JudgeQuestion:
    """One answer to be rated, or two to be compared in this order.

    Example:
        >>> JudgeQuestion("7", [{"role": "user", "content": "Name a fruit."}], ("Apple.",)).compares
        False
    """

    id: str
    """Unique in the benchmark; the same in every round."""
    messages: list[Message]
    """The conversation up to the turn that is answered."""
    answers: tuple[str, ...]

    @property
    def compares(self) -> bool:
        return len(self.answers) == 2


@dataclass(frozen=True, slots=True)
class JudgeVerdict:
    """What came of one question; all but `status` and `reason` are null where there is no verdict.

    Example:
        >>> v = JudgeVerdict("7", "ok", rating=9.0, judgment="Short and right.")
        >>> JudgeVerdict.from_row(v.to_row()) == v
        True
    """

    id: str
    """The question's."""
    status: ScoreStatus
    rating: float | None = None
    """Of one answer, 1 to 10."""
    choice: Literal["first", "second", "tie"] | None = None
    """Of two answers."""
    judgment: str | None = None
    reason: str | None = None
    """Why there is no verdict, in words."""
    cost: float = 0.0
    """US dollars."""
    cached: bool = field(default=False, compare=False)

    def to_row(self) -> JsonObject:
        return shallow_dict(self)

    @classmethod
    def from_row(cls, row: JsonObject) -> Self:
        return cls(**row)

    @staticmethod
    def schema() -> pa.Schema:
        import pyarrow as pa

        texts = ("id", "status", "choice", "judgment", "reason")
        numbers = ("rating", "cost")
        types = {name: pa.string() for name in texts} | {name: pa.float64() for name in numbers}
        types["cached"] = pa.bool_()
        return pa.schema([(one.name, types[one.name]) for one in dataclasses.fields(JudgeVerdict)])
