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
class JudgeTask:
    """What a judge is told to do in a benchmark's own words.

    Example:
        >>> JudgeTask("rating", "Rate the answer's politeness.", lowest=1, highest=5).highest
        5
    """

    kind: Literal["rating", "pairwise"]
    text: str
    """The instructions, without any text that is to be judged."""
    rubric: str | None = None
    """What to judge by, of a user's own."""
    lowest: int = 1
    highest: int = 10
    """The ends of a rating's scale."""


@dataclass(frozen=True, slots=True)
class JudgeQuestion:
    """One answer to be rated, or two to be compared in this order.

    Example:
        >>> JudgeQuestion("7", [{"role": "user", "content": "Name a fruit."}], ("Apple.",)).compares
        False
    """

    id: str
    """Unique in the benchmark; the same in every round."""
    messages: list[Message] = field(default_factory=list)
    """The conversation up to the turn that is answered."""
    answers: tuple[str, ...] = ()
    task: JudgeTask | None = None
    """In place of the judge's usual instructions; then `shown` stands in place of messages and answers."""
    shown: tuple[tuple[str, str], ...] = ()
    """(what it is, text from outside), in the order in which the judge reads them."""

    @property
    def compares(self) -> bool:
        return len(self.answers) == 2 if self.task is None else self.task.kind == "pairwise"


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
    """Of one answer, on the scale that was asked for."""
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
