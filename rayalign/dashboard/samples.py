"""The sample answers of the reports, as the page shows them."""

from __future__ import annotations

from dataclasses import dataclass

from rayalign.dashboard.readings import Report, Rounds, cut, items, number
from rayalign.dashboard.round_tables import text
from rayalign.display import format_value

ROUNDS_WITH_ANSWERS = 12


@dataclass(frozen=True, slots=True)
class Answer:
    """An example as the page shows it."""

    prompt: str
    response: str
    reward: str


@dataclass(frozen=True, slots=True)
class RoundExamples:
    """The examples of one round."""

    round: int
    answers: list[Answer]


def sample_answers(rounds: Rounds) -> list[RoundExamples]:
    """The examples of the first and the latest rounds, newest first."""
    found = [
        (index, [one for one in items(report.get("answers")) if isinstance(one, dict)]) for index, report in rounds
    ]
    found = [(index, some) for index, some in found if some]
    shown = found if len(found) <= ROUNDS_WITH_ANSWERS else [found[0], *found[1 - ROUNDS_WITH_ANSWERS :]]
    return [RoundExamples(index, [_answer(answer) for answer in some]) for index, some in reversed(shown)]


def _answer(answer: Report) -> Answer:
    prompt = answer.get("prompt")
    if isinstance(prompt, list) and all(isinstance(turn, dict) for turn in prompt):
        prompt = "\n\n".join(f"{turn.get('role', '')}: {turn.get('content', '')}" for turn in prompt)
    return Answer(cut(text(prompt)), text(answer.get("response")), format_value(number(answer.get("reward"))))
