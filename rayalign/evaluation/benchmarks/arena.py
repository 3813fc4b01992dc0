"""Answers to a file's questions against those of baselines, in both orders, with Bradley-Terry strengths. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rayalign.evaluation.benchmarks.base import Answers, Asked, Result, Verdicts, answer_facts, verdict_facts
from rayalign.evaluation.benchmarks.both_orders import Comparison, decided, flip_rate, win_rate
from rayalign.evaluation.benchmarks.bradley_terry import Game, strengths
from rayalign.evaluation.benchmarks.duels import Duel, Opponents, against, duel_facts, in_order
from rayalign.evaluation.benchmarks.mt_bench import COMPARE
from rayalign.evaluation.benchmarks.questions import Question, next_turn, texts_of
from rayalign.records import JsonObject, JudgeQuestion, JudgeTask

US = "this"


@dataclass(frozen=True, slots=True)
class Arena:
    """`Benchmark`. Metrics: `win_rate` and `flip_rate` over all baselines, `win_rate/NAME` and `flip_rate/NAME` of
    each, and the strengths `strength` (ours) and `strength/NAME`, whose mean is 1000: 400 points more win 10 times as
    often as they lose.

    Args:
        players: what baselines are called among the players, where that is another name.
        past: games of other rounds of the run, which tell more of the same players.
        player: what we are called in them.
    """

    items: Sequence[Question]
    baselines: Opponents = field(default_factory=dict)
    rubric: str | None = None
    players: Mapping[str, str] = field(default_factory=dict)
    past: Sequence[Game] = ()
    player: str = US

    @property
    def task(self) -> JudgeTask:
        return JudgeTask("pairwise", COMPARE.text, self.rubric)

    @property
    def version(self) -> str:
        content = repr(
            (self.task, list(self.items), in_order(self.baselines), sorted(self.players.items()), list(self.past))
        )
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
        if games := self._games(comparisons):
            for name, metric in strengths([*self.past, *games], seed=seed).items():
                metrics["strength" if name == self.player else f"strength/{name}"] = metric
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

    def _games(self, comparisons: Sequence[Comparison]) -> list[Game]:
        known = decided(comparisons)
        return [Game(one.question, self.player, self._player(one.opponent), share) for one, share in known]

    def _player(self, opponent: str) -> str:
        return self.players.get(opponent, opponent)

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
            found = {
                "opponent": self._player(one.opponent),
                "share": one.share,
                "flipped": one.flipped,
                "asked": one.asked,
            }
            rows[duel.question.id]["against"].append({**found, "turn": duel.turn + 1, "answers": list(duel.theirs)})
        return list(rows.values())


def past_games(rows: Sequence[JsonObject], player: str) -> list[Game]:
    """What the rows of an earlier result say of strengths."""
    return [
        Game(str(row["id"]), player, str(one["opponent"]), float(one["share"]))
        for row in rows
        for one in row.get("against", [])
        if one["share"] is not None and one["opponent"] != player
    ]
