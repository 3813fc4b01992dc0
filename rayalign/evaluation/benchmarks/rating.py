"""Questions of a file, each answer rated by the judge: from 1 to 10, or by a user's rubric on the rubric's scale."""

from __future__ import annotations

import hashlib
import json
import re
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
from rayalign.records import JsonObject, JudgeQuestion, JudgeTask

_TASK = (
    "Below is a conversation and an answer to its last message. Rate the answer with a whole number by the rubric "
    "below, and be as objective as possible."
)
_SCALE = re.compile(r"(?<![\d.])(\d{1,3})\s*(?:to|through|-|\u2013|\u2014|\.\.)\s*(\d{1,3})(?![\d.]*\d)")


def scale_in(rubric: str) -> tuple[int, int] | None:
    """The scale that a rubric names: the first "1 to 5" or "0-100" in it.

    >>> scale_in("From 1 (rude) to 5."), scale_in("Rate politeness from 1 to 5; 5 is for 2-3 kind words.")
    (None, (1, 5))
    """
    pairs = ((int(found[1]), int(found[2])) for found in _SCALE.finditer(rubric))
    return next((pair for pair in pairs if pair[0] < pair[1]), None)


def rating_task(rubric: str, scale: tuple[int, int]) -> JudgeTask:
    """What the judge is told where there is a rubric."""
    return JudgeTask("rating", _TASK, rubric, *scale)


@dataclass(frozen=True, slots=True)
class Rating:
    """`Benchmark` of single questions.

    Args:
        task: a rubric with its scale; without one the judge rates in its usual words.
    """

    items: Sequence[Asked]
    task: JudgeTask | None = None

    @property
    def version(self) -> str:
        content = json.dumps([[item.id, item.messages] for item in self.items])
        own = "" if self.task is None else repr(self.task)
        return hashlib.sha256(f"rating 1\n{own}{content}".encode("utf-8", "surrogatepass")).hexdigest()[:16]

    def ask(self, turn: int, answers: Answers) -> Sequence[Asked]:
        return self.items if turn == 0 else []

    def questions(self, answers: Answers) -> Sequence[JudgeQuestion]:
        return [self._question(item, answers[item.id][0].text) for item in self.items if item.id in answers]

    def _question(self, item: Asked, answer: str) -> JudgeQuestion:
        if self.task is None:
            return JudgeQuestion(item.id, item.messages, (answer,))
        *earlier, last = item.messages
        shown = [(f"earlier {message['role']} turn", message["content"]) for message in earlier]
        shown += [("last message", last["content"]), ("answer", answer)]
        return JudgeQuestion(item.id, task=self.task, shown=tuple(shown))

    def result(self, answers: Answers, verdicts: Verdicts, seed: int) -> Result:
        """`rating`: the mean of those that were given."""
        given = {name: one.rating for name, one in verdicts.items() if one.rating is not None}
        metrics = {"rating": clustered_mean(list(given.values()), list(given), seed=seed)} if given else {}
        facts = answer_facts(answers, len(self.items)) | verdict_facts(verdicts)
        if self.task is not None:
            facts["scale"] = [self.task.lowest, self.task.highest]
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
