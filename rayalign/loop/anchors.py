"""Anchors: fixed answers that every evaluation has scored again. What moves is then the scorer, not the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rayalign.evaluation.drift import drift
from rayalign.loop.sampling import score_shards
from rayalign.parts import Reporter, Scorer
from rayalign.records import Prompt, SampledShard, ScoredSample, Shard
from rayalign.store.round_dir import RoundDir
from rayalign.store.run_dir import RunDir

PURPOSE = "anchors"
FIRST, AGAIN = 0, 1
"""Shards: the first evaluated round scores its anchors twice, which tells noise from drift; later ones once."""


class Anchors:
    """A run's anchors, in the first round that has some and in every evaluated round after it.

    Args:
        prompts: held-out ones by id; anchors of others (a fork may have others) do not count.
    """

    def __init__(
        self, run_dir: RunDir, prompts: Mapping[str, Prompt], scorer: Scorer, reporter: Reporter, *, seed: int
    ) -> None:
        self._run_dir, self._prompts, self._scorer, self._reporter = run_dir, prompts, scorer, reporter
        self._seed = seed

    def drift(self, round_dir: RoundDir, chosen: Sequence[ScoredSample]) -> dict[str, Any]:
        """Score a round's anchors, where that is not done yet, and compare them with the first ones.

        Args:
            chosen: the answers that become anchors where no earlier round has any.
        """
        first = self._first_before(round_dir)
        if first is None:
            self._score(round_dir, chosen, [FIRST, AGAIN])
        else:
            self._score(round_dir, self._read(first, FIRST), [FIRST])
        now, since = self._read(round_dir, FIRST), first or round_dir
        moves = {}
        if first is not None:
            moves = drift(self._read(first, FIRST), self._read(first, AGAIN), now, seed=self._seed)
        return {"since": since.index, "anchors": len(now), "scorers": moves}

    def _first_before(self, round_dir: RoundDir) -> RoundDir | None:
        earlier = (r for r in self._run_dir.rounds() if r.index < round_dir.index)
        return next((r for r in earlier if self._holds(r)), None)

    def _holds(self, round_dir: RoundDir) -> bool:
        """Whether a round has anchors, scored twice, to prompts that are still this run's."""
        if not {FIRST, AGAIN} <= set(round_dir.shards(PURPOSE)):
            return False
        return all(row.sample.prompt_id in self._prompts for row in self._read(round_dir, FIRST))

    def _read(self, round_dir: RoundDir, shard: int) -> list[ScoredSample]:
        return round_dir.read_shard(PURPOSE, shard) or []

    def _score(self, round_dir: RoundDir, anchors: Sequence[ScoredSample], shards: Sequence[int]) -> None:
        samples = [row.sample for row in anchors]
        prompts = tuple(self._prompts[prompt_id] for prompt_id in dict.fromkeys(one.prompt_id for one in samples))
        missing = [shard for shard in shards if not round_dir.has_shard(PURPOSE, shard)]
        # Fresh: a scorer's cache would answer as it did the first time.
        asked = [SampledShard(Shard(shard, prompts), samples, fresh=True) for shard in missing]
        if not asked:
            return
        for scored in score_shards(self._scorer, self._reporter, round_dir.index, asked, "score anchors"):
            round_dir.commit_shard(PURPOSE, scored.shard.index, scored.rows)
