"""Comparisons of two answers by a judge that sees them in both orders. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from rayalign.evaluation.statistics import clustered_mean
from rayalign.records import Metric

Choice = Literal["first", "second", "tie"]
_WORTH: dict[Choice, float] = {"first": 1.0, "tie": 0.5, "second": 0.0}
_OTHER: dict[Choice, Choice] = {"first": "second", "tie": "tie", "second": "first"}


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a judge says of our answer and an opponent's to one question, or to one of its turns."""

    question: str
    """Whose comparisons go together: the cluster of the intervals."""
    opponent: str
    share: float | None
    """1 is won, .5 a tie, 0 lost; None where one of the two verdicts is missing."""
    flipped: bool = False
    """The two orders disagree, which makes a tie."""
    asked: bool = True
    """False for answers of the same text, a tie that nobody was asked about."""


def compared(question: str, opponent: str, forth: Choice | None, back: Choice | None) -> Comparison:
    """The comparison that two verdicts give: won or lost only where both orders agree.

    Args:
        forth: the verdict with our answer first; None where it is missing.
        back: the verdict with our answer second.

    >>> compared("81", "base", "first", "second").share, compared("81", "base", "first", "first").share
    (1.0, 0.5)
    """
    if forth is None or back is None:
        return Comparison(question, opponent, None)
    if forth != _OTHER[back]:
        return Comparison(question, opponent, 0.5, flipped=True)
    return Comparison(question, opponent, _WORTH[forth])


def same_text(question: str, opponent: str) -> Comparison:
    """Two answers of the same text."""
    return Comparison(question, opponent, 0.5, asked=False)


def decided(comparisons: Iterable[Comparison]) -> list[tuple[Comparison, float]]:
    """The comparisons with an outcome, each with its share."""
    return [(one, one.share) for one in comparisons if one.share is not None]


def win_rate(comparisons: Sequence[Comparison], *, seed: int) -> Metric | None:
    """The mean share, with an interval clustered by question; None where nothing is decided."""
    known = decided(comparisons)
    if not known:
        return None
    return clustered_mean([share for _, share in known], [one.question for one, _ in known], seed=seed)


def flip_rate(comparisons: Sequence[Comparison], *, seed: int) -> Metric | None:
    """The share of the judge's pairs of verdicts that hang on the order in which the answers stood."""
    judged = [one for one, _ in decided(comparisons) if one.asked]
    if not judged:
        return None
    return clustered_mean([float(one.flipped) for one in judged], [one.question for one in judged], seed=seed)
