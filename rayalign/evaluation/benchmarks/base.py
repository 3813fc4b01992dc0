"""What a benchmark is: pure, it asks nobody itself.

    ask(turn) ─► conversations ─► the model's answers ─┐   once per turn, until it asks nothing more
    questions(answers) ─► the judge's verdicts ◄───────┘   none where answers are checked by themselves
    result(answers, verdicts) ─► metrics, facts, rows

Who drives it samples the answers, asks the judge and commits both; what it may not lose is in their hands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from rayalign.records import JsonObject, JudgeQuestion, JudgeVerdict, Message, Metric


@dataclass(frozen=True, slots=True)
class Asked:
    """A conversation that the model is to answer."""

    id: str
    """Of the benchmark's item: unique in a turn, the same in every turn and round."""
    messages: list[Message]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said."""

    text: str
    cut: bool
    """It reached the token limit."""
    tokens: int


Answers = Mapping[str, Sequence[Answer]]
"""By item, in the order of its turns. An item that could not be asked is missing, and one that got no further is
shorter."""
Verdicts = Mapping[str, JudgeVerdict]
"""By question; every question that was asked has one, if only to say that it failed."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a benchmark measured on one adapter."""

    metrics: dict[str, Metric]
    """What could not be measured is not there."""
    facts: JsonObject = field(default_factory=dict)
    """Counts and settings, as JSON."""
    rows: list[JsonObject] = field(default_factory=list)
    """One per item, to be looked at."""
    files: tuple[str, ...] = ()
    """Files in the benchmark's folder that were written and belong to it."""


class Benchmark(Protocol):
    """One benchmark with its questions."""

    @property
    def version(self) -> str:
        """Hash of all that decides what it asks and how it counts, its files' contents among it."""
        ...

    def ask(self, turn: int, answers: Answers) -> Sequence[Asked]:
        """What the model is asked in a turn, from 0 on, after the answers of earlier ones; nothing ends the asking."""
        ...

    def questions(self, answers: Answers) -> Sequence[JudgeQuestion]:
        """What the judge is asked of all answers."""
        ...

    def result(self, answers: Answers, verdicts: Verdicts, seed: int) -> Result:
        """What it all comes to.

        Args:
            seed: of the intervals' resamples.
        """
        ...


def answer_facts(answers: Answers, asked: int) -> JsonObject:
    """How many items there were, were asked, and how many answers were cut."""
    every = [answer for turns in answers.values() for answer in turns]
    return {
        "items": asked,
        "answered": len(answers),
        "answers": len(every),
        "cut": sum(answer.cut for answer in every),
        "tokens": sum(answer.tokens for answer in every),
    }


def verdict_facts(verdicts: Verdicts) -> JsonObject:
    """How many verdicts were asked for, how many failed, why the first of them did, and what they cost."""
    failed = [one for one in verdicts.values() if one.status != "ok"]
    facts: JsonObject = {
        "asked": len(verdicts),
        "failed": len(failed),
        "cost": sum(one.cost for one in verdicts.values()),
    }
    if failed:
        facts["first_failure"] = failed[0].reason
    return {"judge": facts}
