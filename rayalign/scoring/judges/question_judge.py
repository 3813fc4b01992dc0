"""A judge that answers the questions of benchmarks: with the templates, the quoting, the limits and the cache of every
judge that scores."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from typing import Literal

from rayalign.records import FROM_DATASET, JudgeQuestion, JudgeTask, JudgeVerdict, Prompt, Sample
from rayalign.scoring.failures import without_surrogates
from rayalign.scoring.judges.llm_judge import Judged, LLMJudge, Question

Asking = Literal["rating", "pairwise"] | JudgeTask
"""With a template of every judge that scores, or in a benchmark's own words."""


class QuestionJudge:
    """`Judge` in parts: rates single answers, and compares two in the order in which they come.

    Args:
        make: an `LLMJudge` that asks in one way; called when the first question of that kind comes.
    """

    def __init__(self, make: Callable[[Asking], LLMJudge]) -> None:
        self._make = make
        self._made: dict[Asking, LLMJudge] = {}

    @property
    def version(self) -> str:
        """Hash of model, templates and sampling."""
        versions = [self._judge("rating").version, self._judge("pairwise").version]
        return hashlib.sha256("+".join(versions).encode()).hexdigest()[:16]

    def check(self, asking: Asking) -> None:
        """See that the judge gives verdicts of a kind.

        Raises:
            ConfigError: it cannot be used.
        """
        self._judge(asking).check()

    def judge(self, questions: Sequence[JudgeQuestion]) -> list[JudgeVerdict]:
        """One verdict per question, in their order; one that failed says why."""
        verdicts: dict[str, JudgeVerdict] = {}
        kinds: dict[Asking, list[JudgeQuestion]] = {}
        for question in questions:
            kinds.setdefault(question.task or ("pairwise" if question.compares else "rating"), []).append(question)
        for asking, some in kinds.items():
            judged = self._judge(asking).judged([_question(one) for one in some])
            verdicts |= {one.id: _verdict(one.id, what) for one, what in zip(some, judged, strict=True)}
        return [verdicts[question.id] for question in questions]

    def close(self) -> None:
        for judge in self._made.values():
            judge.close()

    def _judge(self, asking: Asking) -> LLMJudge:
        if asking not in self._made:
            self._made[asking] = self._make(asking)
        return self._made[asking]


def _question(question: JudgeQuestion) -> Question:
    if question.task is not None:
        # The names stand in place of roles; a `TaskTemplate` reads them so.
        shown = [{"role": name, "content": text} for name, text in question.shown]
        return Question(Prompt(question.id, shown, []), ())
    samples = [
        Sample(question.id, index, text, [], [], "stop", FROM_DATASET, 0) for index, text in enumerate(question.answers)
    ]
    return Question(Prompt(question.id, question.messages, []), tuple(samples))


def _verdict(name: str, judged: Judged) -> JudgeVerdict:
    verdict = JudgeVerdict(name, judged.status, reason=judged.reason, cost=judged.cost, cached=judged.cached)
    if (reading := judged.reading) is None:
        return verdict
    judgment = None if reading.judgment is None else without_surrogates(reading.judgment)
    return dataclasses.replace(verdict, rating=reading.reward, choice=reading.choice, judgment=judgment)
