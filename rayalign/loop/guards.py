"""Guards: what stops a round before it can do harm, with the run intact."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rayalign.errors import GuardError
from rayalign.records import NOT_ASKED, ScoredSample, ScoredShard, Shards
from rayalign.store.round_dir import RoundDir

KEPT_REASONS = 1000
"""Different reasons of a scorer that are counted each; a scorer may name the answer in its own."""
OTHER = "other reasons"


class ScoreErrorGuard:
    """Stops a round when a scorer failed (status `error` or `timeout`) on more than a share of the answers that it was
    asked about.

    Args:
        budget: allowed share, 0..1.
        answers: that the stage will have in all.
        doing: what is done with the answers.
    """

    def __init__(self, budget: float, answers: int, doing: str = "training on") -> None:
        self._budget = budget
        self._answers = answers
        self._doing = doing
        self.statuses: Counter[str] = Counter()
        self._not_asked: Counter[str] = Counter()
        self._reasons: dict[str, Counter[str]] = {}

    def count(self, rows: Sequence[ScoredSample]) -> None:
        """Count rows of an earlier attempt."""
        for row in rows:
            for score in row.scores:
                self.statuses[score.status] += 1
                if score.status in ("error", "timeout"):
                    reasons = self._reasons.setdefault(score.scorer, Counter())
                    reason = str(score.reason)
                    known = reason in reasons or len(reasons) < KEPT_REASONS
                    reasons[reason if known else OTHER] += 1
                elif score.reason == NOT_ASKED:
                    self._not_asked[score.scorer] += 1

    def __call__(self, scored: ScoredShard) -> None:
        """Count a new shard; raise where the budget is spent."""
        self.count(scored.rows)
        self.check(
            f"; {self._doing} what is left would be {self._doing} a biased part",
            "mend the scorer (a changed rule file needs a new run.name) or raise limits.score_errors",
        )

    def check(self, harm: str, remedy: str) -> None:
        """Raise where a scorer's budget is spent.

        Args:
            harm: what that would do, after the bare fact.
            remedy: for the error.

        Raises:
            GuardError: the scorer, how often it failed and why most often.
        """
        for scorer, reasons in self._reasons.items():
            failed, asked = reasons.total(), self._answers - self._not_asked[scorer]
            if failed <= self._budget * asked:
                continue
            reason, count = reasons.most_common(1)[0]
            raise GuardError(
                f"{failed} of {asked} scores of {scorer} failed; most often ({count}x) {reason}",
                f"more than the {self._budget:.1%} that the run's limits.score_errors allows{harm}",
                remedy,
            )


def stage_guard(
    round_dir: RoundDir, purpose: str, shards: Shards, answers: int, budget: float, doing: str
) -> ScoreErrorGuard:
    """The guard of a round's stage, which has counted the shards that are committed already.

    Args:
        answers, budget, doing: see `ScoreErrorGuard`.
    """
    guard = ScoreErrorGuard(budget, answers, doing)
    for index in shards.indices:
        guard.count(round_dir.read_shard(purpose, index) or [])
    return guard
