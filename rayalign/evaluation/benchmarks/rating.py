"""Questions of a file, each answer rated by the judge from 1 to 10."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from rayalign.evaluation.benchmarks.base import (
    Answers,
    Asked,
    Result,
    Verdicts,
    answer_facts,
    verdict_facts,
)
from rayalign.evaluation.statistics import clustered_mean
from rayalign.records import JsonObject, JudgeQuestion


@dataclass(frozen=True, slots=True)
class Rating:
    """`Benchmark` of single questions."""

    items: Sequence[Asked]

    @property
    def version(self) -> str:
        content = json.dumps([[item.id, item.messages] for item in self.items])
        return hashlib.sha256(f"rating 1\n{content}".encode()).hexdigest()[:16]

    def ask(self, turn: int, answers: Answers) -> Sequence[Asked]:
        return self.items if turn == 0 else []

    def questions(self, answers: Answers) -> Sequence[JudgeQuestion]:
        return [
            JudgeQuestion(item.id, item.messages, (answers[item.id][0].text,))
            for item in self.items
            if item.id in answers
        ]

    def result(self, answers: Answers, verdicts: Verdicts, seed: int) -> Result:
        """`rating`: the mean of those that were given."""
        given = {name: one.rating for name, one in verdicts.items() if one.rating is not None}
        metrics = {"rating": clustered_mean(list(given.values()), list(given), seed=seed)} if given else {}
        facts = answer_facts(answers, len(self.items)) | verdict_facts(verdicts)
        return Result(metrics, facts, [self._row(item, answers, verdicts) for item in self.items])

    def _row(self, item: Asked, answers: Answers, verdicts: Verdicts) -> JsonObject:
        verdict = verdicts.get(item.id)
        return {
            "id": item.id,
            "messages": item.messages,
            "answer": answers[item.id][0].text if item.id in answers else None,
            "rating": verdict.rating if verdict else None,
            "judgment": verdict.judgment if verdict else None,
            "reason": verdict.reason if verdict else "not asked: longer than the model may be asked",
        }
