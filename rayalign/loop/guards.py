"""Guards: what stops a round before it can do harm, with the run intact."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rayalign.errors import GuardError
from rayalign.records import ScoredSample
from rayalign.stages import ScoredShard

KEPT_REASONS = 1000
"""Different reasons that are counted each; a scorer may name the answer in its own."""
OTHER = "other reasons"


class ScoreErrorGuard:
    """Stops sampling when more than a share of a round's scores failed (status `error` or `timeout`).

    Args:
        budget: allowed share, 0..1.
        expected: scores that the round will have in all.
    """

    def __init__(self, budget: float, expected: int) -> None:
        self._allowed = budget * expected
        self._expected = expected
        self.statuses: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()

    def count(self, rows: Sequence[ScoredSample]) -> None:
        """Count rows of an earlier attempt."""
        for row in rows:
            for score in row.scores:
                self.statuses[score.status] += 1
                if score.status in ("error", "timeout"):
                    reason = f"{score.scorer}: {score.reason}"
                    known = reason in self._reasons or len(self._reasons) < KEPT_REASONS
                    self._reasons[reason if known else f"{score.scorer}: {OTHER}"] += 1

    def __call__(self, scored: ScoredShard) -> None:
        """Count a new shard; raise where the budget is spent."""
        self.count(scored.rows)
        failed = self.statuses["error"] + self.statuses["timeout"]
        if failed > self._allowed:
            reason, count = self._reasons.most_common(1)[0]
            raise GuardError(
                f"{failed} of {self._expected} scores failed; most often ({count}x) {reason}",
                f"more than the {self._allowed / self._expected:.1%} that limits.score_errors allows; "
                "training on what is left would be training on a biased part",
                "mend the scorer (a changed rule file needs a new run.name) or raise limits.score_errors",
            )
