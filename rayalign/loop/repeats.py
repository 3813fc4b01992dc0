"""Repeats: the held-out answers judged once more, to see how far the same judge differs on the same answers.

Each repeat is committed shard by shard beside the evaluation (`repeat1-00000`, ...), so that a killed run asks only for
what is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rayalign.config.run import RunConfig
from rayalign.loop.guards import stage_guard
from rayalign.loop.sampling import Advance, commit_shards, read_rows
from rayalign.parts import Reporter, Scorer
from rayalign.records import Prompt, Repeat, SampledShard, ScoredSample, ScoredShard, Shard, Shards
from rayalign.store.round_dir import RoundDir


def repeat_scores(config: RunConfig, round_dir: RoundDir, shards: Shards, scorer: Scorer, reporter: Reporter) -> None:
    """Score a round's held-out answers again, as often as `evaluation.judge_repeats` says, where that is not done."""
    for number in range(1, config.evaluation.judge_repeats):
        source = ScoredAgain(number, round_dir, config.evaluation.responses, scorer)
        purpose, budget = purpose_of(number), config.limits.score_errors
        guard = stage_guard(round_dir, purpose, shards, source.total(shards), budget, "measuring")
        commit_shards(round_dir, shards, source, purpose, reporter, stage=f"judge again ({number})", check=guard)


def evaluation_rows(round_dir: RoundDir) -> list[list[ScoredSample]]:
    """A round's held-out answers, and the same answers as each repeat scored them, all in one order."""
    shards = round_dir.shards("evaluation")
    rows_RN = [read_rows(round_dir, "evaluation", shards)]
    while shards and round_dir.shards(purpose_of(len(rows_RN))) == shards:
        rows_RN.append(read_rows(round_dir, purpose_of(len(rows_RN)), shards))
    return rows_RN


def purpose_of(number: int) -> str:
    """How the commits of a repeat begin; 1 is the second time that answers are scored."""
    return f"repeat{number}"


class ScoredAgain:
    """`Source`: the answers of the round's evaluation, scored once more."""

    def __init__(self, number: int, round_dir: RoundDir, responses: int, scorer: Scorer) -> None:
        self._number, self._round_dir, self._responses, self._scorer = number, round_dir, responses, scorer

    def count(self, prompt: Prompt) -> int:
        return self._responses

    def total(self, shards: Shards) -> int:
        return shards.prompts * self._responses

    def scored(self, shards: Iterable[Shard], advance: Advance) -> Iterator[ScoredShard]:
        for scored in self._scorer.score(map(self._again, shards)):
            advance(len(scored.rows), 0)
            yield scored

    def under_way(self) -> int:
        return 0

    def _again(self, shard: Shard) -> SampledShard:
        rows: Sequence[ScoredSample] = self._round_dir.read_shard("evaluation", shard.index) or []
        return SampledShard(shard, [row.sample for row in rows], repeat=Repeat(self._number, list(rows)))
