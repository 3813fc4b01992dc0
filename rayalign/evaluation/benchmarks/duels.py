"""Our answers against an opponent's, question by question, each asked in both orders. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rayalign.evaluation.benchmarks.base import Verdicts
from rayalign.evaluation.benchmarks.both_orders import Comparison, compared, flip_rate, same_text, win_rate
from rayalign.evaluation.benchmarks.questions import Question, Texts
from rayalign.records import JsonObject, JudgeQuestion, JudgeTask, Metric

Opponents = Mapping[str, Mapping[str, Texts]]
"""Opponent -> question id -> an answer to each turn."""


@dataclass(frozen=True, slots=True)
class Duel:
    """One turn of one question that two sides have answered.

    Args:
        reference: show the judge the right answers.
    """

    question: Question
    turn: int
    opponent: str
    ours: Texts
    theirs: Texts
    task: JudgeTask
    reference: bool = False

    @property
    def id(self) -> str:
        return f"{self.question.id} turn {self.turn + 1} against {self.opponent}"

    def asked(self) -> list[JudgeQuestion]:
        """Ours first, then ours second; nothing where both sides say the same."""
        if self._same:
            return []
        return [
            JudgeQuestion(f"{self.id}, ours first", task=self.task, shown=self._shown(self.ours, self.theirs)),
            JudgeQuestion(f"{self.id}, ours second", task=self.task, shown=self._shown(self.theirs, self.ours)),
        ]

    def outcome(self, verdicts: Verdicts) -> Comparison:
        """What the two verdicts come to."""
        if self._same:
            return same_text(self.question.id, self.opponent)
        forth, back = self.asked()
        return compared(self.question.id, self.opponent, verdicts[forth.id].choice, verdicts[back.id].choice)

    @property
    def _same(self) -> bool:
        return self.ours[: self.turn + 1] == self.theirs[: self.turn + 1]

    def _shown(self, first: Texts, second: Texts) -> tuple[tuple[str, str], ...]:
        shown = self.question.shown(self.turn, reference=self.reference)
        for letter, texts in (("A", first), ("B", second)):
            name = f"answer of assistant {letter}"
            shown += [(self.question.label(name, i), texts[i]) for i in range(self.turn + 1)]
        return tuple(shown)


def against(comparisons: Sequence[Comparison], opponents: Iterable[str], seed: int) -> dict[str, Metric | None]:
    """`win_rate/OPPONENT` and `flip_rate/OPPONENT` of each; None where nothing was decided."""
    rates: dict[str, Metric | None] = {}
    for name in opponents:
        met = [one for one in comparisons if one.opponent == name]
        rates[f"win_rate/{name}"], rates[f"flip_rate/{name}"] = win_rate(met, seed=seed), flip_rate(met, seed=seed)
    return rates


def duel_facts(duels: Sequence[Duel], comparisons: Sequence[Comparison]) -> JsonObject:
    """Comparisons against each opponent: how many were won, tied and lost, and how many have no outcome."""
    facts: JsonObject = {}
    for name in sorted({duel.opponent for duel in duels}):
        met = [one for one in comparisons if one.opponent == name]
        facts[name] = {
            "comparisons": len(met),
            **{
                name: sum(one.share == worth for one in met) for name, worth in (("won", 1), ("tied", 0.5), ("lost", 0))
            },
            "without_outcome": sum(one.share is None for one in met),
            "same_text": sum(not one.asked for one in met),
        }
    return {"opponents": facts}


def in_order(opponents: Opponents) -> list[tuple[str, list[tuple[str, Texts]]]]:
    """The same whatever the order in which opponents and answers came."""
    return sorted((name, sorted(answers.items())) for name, answers in opponents.items())
