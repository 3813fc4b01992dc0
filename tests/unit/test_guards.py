"""The score error guard on its own."""

from __future__ import annotations

import pytest

from rayalign.errors import GuardError
from rayalign.loop.guards import KEPT_REASONS, ScoreErrorGuard
from rayalign.records import Sample, Score, ScoredSample
from rayalign.stages import ScoredShard, Shard


def failed(*reasons: str) -> ScoredShard:
    rows = [
        ScoredSample(Sample("p", i, "x", [1], [0.0], "stop", 0, 0), [Score("s", "1", "error", reason=reason)], None)
        for i, reason in enumerate(reasons)
    ]
    return ScoredShard(Shard(0, ()), rows)


def test_reasons_that_all_differ_are_not_all_kept() -> None:
    """A million reasons of their own would be a million texts; what came often before is still named."""
    guard = ScoreErrorGuard(0.5, expected=4 * KEPT_REASONS)
    guard(failed("broken", "broken"))
    guard(failed(*(f"answer {i}" for i in range(2 * KEPT_REASONS - 2))))
    assert guard.statuses["error"] == 2 * KEPT_REASONS
    assert len(guard._reasons) == KEPT_REASONS + 1
    with pytest.raises(GuardError, match=rf"most often \({KEPT_REASONS - 1}x\) s: other reasons"):
        guard(failed("broken"))


def test_the_most_frequent_reason_is_named() -> None:
    guard = ScoreErrorGuard(0.5, expected=4)
    with pytest.raises(GuardError, match=r"most often \(2x\) s: broken"):
        guard(failed("other", "broken", "broken"))
