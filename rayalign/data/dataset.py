"""What every dataset format is read into: one prompt with the answers that the dataset has for it. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TypedDict

from rayalign.errors import DataError
from rayalign.records import JsonObject, Message, Verdict

KEPT_NAMES = 1000
"""Rows (or answers) left out for one reason that are kept by name."""


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer of a dataset, with what the dataset says of it."""

    text: str
    score: float | None = None
    """Higher is better; None where the dataset gives none."""
    judgment: str | None = None
    """Criticism in words; None where the dataset has none."""
    verdict: Verdict | None = None
    revision: str | None = None
    """A better answer, written with the judgment in view."""


@dataclass(frozen=True, slots=True)
class DatasetRow:
    """One prompt of a dataset and its answers.

    Example:
        >>> DatasetRow([{"role": "user", "content": "Name a fish."}], [Completion("cod.", score=1.0)]).target is None
        True
    """

    messages: list[Message]
    """The conversation up to the turn that is answered."""
    completions: list[Completion] = field(default_factory=list)
    """In the dataset's order; of a preference pair the chosen one (score 1) stands before the rejected one (0)."""
    target: str | None = None
    """The reference answer (SFT target)."""
    metadata: JsonObject = field(default_factory=dict)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    """Reason -> answers of this row that could not be used ("answer 2"); the row has others."""


class LeftOutFacts(TypedDict):
    """What was left out for one reason: how many, and the `first` names."""

    count: int
    first: list[str]


@dataclass(slots=True)
class LeftOut:
    """What was left out, counted by reason; of each reason only the first ones are known by name, however many."""

    counts: Counter[str] = field(default_factory=Counter)
    names: dict[str, list[str]] = field(default_factory=dict)
    """Reason -> the names of the first `KEPT_NAMES` rows (or answers)."""
    remedy: str = ""
    """What can be done about the first reason for which something can."""

    def add(self, reason: str, name: str, remedy: str = "") -> None:
        self.counts[reason] += 1
        self.remedy = self.remedy or remedy
        first = self.names.setdefault(reason, [])
        if len(first) < KEPT_NAMES:
            first.append(name)

    def to_dict(self) -> dict[str, LeftOutFacts]:
        """Reason -> `count` and the `first` names."""
        return {reason: {"count": count, "first": self.names[reason]} for reason, count in self.counts.items()}


def printable(text: str) -> str:
    """The text, with what UTF-8 cannot hold as an escape."""
    return text.encode("utf-8", "backslashreplace").decode()


class BadRow(Exception):
    """Why a row, or one answer of it, cannot be used.

    Args:
        reason: the same for all rows with this fault, so that they can be counted.
        found: of a row that is not of the expected form at all: what it is instead. Null, empty and other odd values
            need none.
        why: why that is wrong.
        remedy: what the user can do about it.
    """

    def __init__(self, reason: str, found: str = "", why: str = "", remedy: str = "") -> None:
        # Names of fields come from the row: they are shown and counted, and must not fail where they are written.
        told = [printable(part) for part in (reason, found, why, remedy)]
        super().__init__(*told)
        self.reason, self.found, self.why, self.remedy = told

    def error(self, where: str) -> DataError:
        return DataError(f"{where}: {self.found or self.reason}", self.why, self.remedy or "mend or remove that row")
