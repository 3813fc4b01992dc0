"""What every dataset format is read into: one prompt with the answers that the dataset has for it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rayalign.records import Message, Verdict


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
    metadata: dict[str, Any] = field(default_factory=dict)
