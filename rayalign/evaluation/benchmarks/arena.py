"""Answers to a file's questions against those of baselines, in both orders, with Bradley-Terry strengths. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from rayalign.evaluation.benchmarks.base import Answers, Asked, Result, Verdicts, answer_facts, verdict_facts
from rayalign.evaluation.benchmarks.both_orders import Comparison, decided, flip_rate, win_rate
from rayalign.evaluation.benchmarks.bradley_terry import Game, strengths
from rayalign.evaluation.benchmarks.duels import Duel, Opponents, against, duel_facts, in_order
from rayalign.evaluation.benchmarks.mt_bench import COMPARE
from rayalign.evaluation.benchmarks.questions import Question, next_turn, texts_of
from rayalign.records import JsonObject, JudgeQuestion, JudgeTask

US = "this"
"""The player that is measured, among its opponents."""


@dataclass(frozen=True, slots=True)
class Arena:
    """`Benchmark`. Metrics: `win_rate` and `flip_rate` over all baselines and for each, `win_rate/NAME`, and the
    strengths `strength` (ours) and `strength/NAME`, whose mean is 1000: 400 points more win 10 times as often."""

    items: Sequence[Question]
    baselines: Opponents
    rubric: str | None = None

    @property
    def task(self) -> JudgeTask:
        return JudgeTask("pairwise", COMPARE.text, self.rubric)

    @property
    def version(self) -> str:
        content = repr((self.task, list(self.items), in_order(self.baselines)))
        return hashlib.sha256(f"arena 1\n{content}".encode("utf-8", "surrogatepass")).hexdigest()[:16]

    def ask(self, turn: int, answers: Answers) -> Sequence[Asked]:
        return next_turn(self.items, turn, answers)

    def questions(self, answers: Answers) -> Sequence[JudgeQuestion]:
        return [one for duel in self._duels(answers) for one in duel.asked()]

    def result(self, answers: Answers, verdicts: Verdicts, seed: int) -> Result:
        duels = self._duels(answers)
        comparisons = [duel.outcome(verdicts) for duel in duels]
        rates = {"win_rate": win_rate(comparisons, seed=seed), "flip_rate": flip_rate(comparisons, seed=seed)}
        rates |= against(comparisons, self.baselines, seed)
        metrics = {name: metric for name, metric in rates.items() if metric is not None}
        for name, metric in strengths(_games(comparisons), seed=seed).items():
            metrics["strength" if name == US else f"strength/{name}"] = metric
        facts = answer_facts(answers, len(self.items)) | verdict_facts(verdicts) | duel_facts(duels, comparisons)
        return Result(metrics, facts, self._rows(answers, duels, comparisons))

    def _duels(self, answers: Answers) -> list[Duel]:
        return [
            Duel(question, turn, name, texts, theirs[question.id], self.task)
            for name, theirs in self.baselines.items()
            for question in self.items
            if (texts := texts_of(answers, question)) and question.id in theirs
            for turn in range(min(len(texts), len(theirs[question.id])))
        ]

    def _rows(self, answers: Answers, duels: Sequence[Duel], comparisons: Sequence[Comparison]) -> list[JsonObject]:
        rows = {
            question.id: {
                "id": question.id,
                "turns": list(question.turns),
                "answers": list(texts_of(answers, question)),
                "against": [],
            }
            for question in self.items
        }
        for duel, one in zip(duels, comparisons, strict=True):
            found = {"opponent": one.opponent, "share": one.share, "flipped": one.flipped, "asked": one.asked}
            rows[duel.question.id]["against"].append({**found, "turn": duel.turn + 1, "answers": list(duel.theirs)})
        return list(rows.values())


def _games(comparisons: Sequence[Comparison]) -> list[Game]:
    return [Game(one.question, US, one.opponent, share) for one, share in decided(comparisons)]
