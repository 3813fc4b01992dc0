"""MT-Bench (arXiv 2306.05685): two turns, each answer graded from 1 to 10, and compared with a baseline's. Pure.

The instructions to the judge follow the paper's; how texts are quoted and replies are read is rayalign's own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from rayalign.evaluation.benchmarks.base import Answers, Asked, Result, Verdicts, answer_facts, verdict_facts
from rayalign.evaluation.benchmarks.duels import Duel, Opponents, against, duel_facts, in_order
from rayalign.evaluation.benchmarks.questions import Question, next_turn, texts_of, to_grade
from rayalign.evaluation.statistics import clustered_mean
from rayalign.records import JsonObject, JudgeQuestion, JudgeTask, Metric

WITH_REFERENCE = frozenset(("math", "reasoning", "coding"))
"""Categories whose right answers the judge is shown, as in the paper."""
_FAIR = "Please act as an impartial judge and be as objective as possible."
_ORDER = "Neither the order in which the answers stand nor their length may influence your choice."
_MISTAKES = "with the reference answer, and name and correct every mistake."
GRADE = JudgeTask(
    "rating",
    f"{_FAIR} Evaluate the quality of the answer that an AI assistant gave to the last of the user's questions below. "
    "Consider its helpfulness, relevance, accuracy, depth, creativity and level of detail.",
)
GRADE_BY_REFERENCE = JudgeTask(
    "rating",
    f"{_FAIR} Evaluate the answer that an AI assistant gave to the last of the user's questions below by its "
    f"correctness and helpfulness. Compare it {_MISTAKES}",
)
COMPARE = JudgeTask(
    "pairwise",
    f"{_FAIR} Evaluate which of two AI assistants, A and B, follows the user's instructions and answers the last of "
    "the user's questions below better. Consider helpfulness, relevance, accuracy, depth, creativity and level of "
    f"detail. {_ORDER}",
)
COMPARE_BY_REFERENCE = JudgeTask(
    "pairwise",
    f"{_FAIR} Evaluate which of two AI assistants, A and B, answers the last of the user's questions below more "
    f"correctly and helpfully. Compare both {_MISTAKES} {_ORDER}",
)
Place = tuple[Question, int]
"""A turn of a question."""


def by_reference(question: Question) -> bool:
    """Whether the judge is shown the right answers."""
    return bool(question.reference) and question.category in WITH_REFERENCE


@dataclass(frozen=True, slots=True)
class MTBench:
    """`Benchmark`. Metrics: `score`, `score/turn_1`, `score/turn_2`, `score/CATEGORY`, and for each baseline
    `win_rate/NAME` and `flip_rate/NAME`, all with intervals clustered by question."""

    items: Sequence[Question]
    baselines: Opponents = field(default_factory=dict)

    @property
    def version(self) -> str:
        tasks = (GRADE, GRADE_BY_REFERENCE, COMPARE, COMPARE_BY_REFERENCE)
        content = repr((tasks, list(self.items), in_order(self.baselines)))
        return hashlib.sha256(f"mt_bench 1\n{content}".encode("utf-8", "surrogatepass")).hexdigest()[:16]

    def ask(self, turn: int, answers: Answers) -> Sequence[Asked]:
        return next_turn(self.items, turn, answers)

    def questions(self, answers: Answers) -> Sequence[JudgeQuestion]:
        graded = [_grading(question, turn, answers) for question, turn in self._places(answers)]
        return graded + [one for duel in self._duels(answers) for one in duel.asked()]

    def result(self, answers: Answers, verdicts: Verdicts, seed: int) -> Result:
        given = {
            (question.id, turn): rating
            for question, turn in self._places(answers)
            if (rating := verdicts[_grading(question, turn, answers).id].rating) is not None
        }
        duels = self._duels(answers)
        comparisons = [duel.outcome(verdicts) for duel in duels]
        metrics = self._scores(given, seed) | against(comparisons, self.baselines, seed)
        facts = answer_facts(answers, len(self.items)) | verdict_facts(verdicts) | duel_facts(duels, comparisons)
        rows = [self._row(question, answers, verdicts) for question in self.items]
        return Result({name: metric for name, metric in metrics.items() if metric is not None}, facts, rows)

    def _places(self, answers: Answers) -> list[Place]:
        return [(question, turn) for question in self.items for turn in range(len(texts_of(answers, question)))]

    def _duels(self, answers: Answers) -> list[Duel]:
        return [
            Duel(
                question,
                turn,
                name,
                texts_of(answers, question),
                theirs[question.id],
                COMPARE_BY_REFERENCE if by_reference(question) else COMPARE,
                by_reference(question),
            )
            for name, theirs in self.baselines.items()
            for question, turn in self._places(answers)
            if turn < len(theirs.get(question.id, ()))
        ]

    def _scores(self, given: dict[tuple[str, int], float], seed: int) -> dict[str, Metric | None]:
        places = [(question, turn) for question in self.items for turn in range(len(question.turns))]
        parts: dict[str, list[Place]] = {"score": places}
        for question, turn in places:
            parts.setdefault(f"score/turn_{turn + 1}", []).append((question, turn))
        for question, turn in places:
            if question.category:
                parts.setdefault(f"score/{question.category}", []).append((question, turn))
        keys = {name: [(question.id, turn) for question, turn in some] for name, some in parts.items()}
        return {name: _mean([(key, given[key]) for key in some if key in given], seed) for name, some in keys.items()}

    def _row(self, question: Question, answers: Answers, verdicts: Verdicts) -> JsonObject:
        texts = texts_of(answers, question)
        grades = [verdicts[_grading(question, turn, answers).id] for turn in range(len(texts))]
        return {
            "id": question.id,
            "category": question.category,
            "turns": list(question.turns),
            "answers": list(texts),
            "ratings": [one.rating for one in grades],
            "judgments": [one.judgment for one in grades],
            "reasons": [one.reason for one in grades],
        }


def _grading(question: Question, turn: int, answers: Answers) -> JudgeQuestion:
    exact = by_reference(question)
    task = GRADE_BY_REFERENCE if exact else GRADE
    return to_grade(question, texts_of(answers, question), turn, task, reference=exact)


def _mean(given: Sequence[tuple[tuple[str, int], float]], seed: int) -> Metric | None:
    if not given:
        return None
    return clustered_mean([rating for _, rating in given], [question for (question, _), _ in given], seed=seed)
