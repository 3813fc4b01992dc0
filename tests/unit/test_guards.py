"""The score error guard on its own."""

from __future__ import annotations

import pytest

from rayalign.errors import GuardError
from rayalign.loop.guards import KEPT_REASONS, ScoreErrorGuard
from rayalign.records import NOT_ASKED, Sample, Score, ScoredSample, ScoredShard, Shard


def failed(*reasons: str) -> ScoredShard:
    rows = [
        ScoredSample(Sample("p", i, "x", [1], [0.0], "stop", 0, 0), [Score("s", "1", "error", reason=reason)], None)
        for i, reason in enumerate(reasons)
    ]
    return ScoredShard(Shard(0, ()), rows)


def test_reasons_that_all_differ_are_not_all_kept() -> None:
    """A million reasons of their own would be a million texts; what came often before is still named."""
    guard = ScoreErrorGuard(0.5, answers=4 * KEPT_REASONS)
    guard(failed("broken", "broken"))
    guard(failed(*(f"answer {i}" for i in range(2 * KEPT_REASONS - 2))))
    assert guard.statuses["error"] == 2 * KEPT_REASONS
    assert len(guard._reasons["s"]) == KEPT_REASONS + 1
    with pytest.raises(GuardError, match=rf"most often \({KEPT_REASONS - 1}x\) other reasons"):
        guard(failed("broken"))


def test_the_most_frequent_reason_is_named() -> None:
    guard = ScoreErrorGuard(0.5, answers=4)
    with pytest.raises(GuardError, match=r"most often \(2x\) broken"):
        guard(failed("other", "broken", "broken"))


def test_a_scorer_is_held_against_the_answers_that_it_was_asked_about() -> None:
    """A judge that fails whenever it is asked is broken, however seldom that is."""

    def shard(*judged: tuple[str, str | None]) -> ScoredShard:
        rows = [
            ScoredSample(
                Sample("p", i, "x", [1], [0.0], "stop", 0, 0),
                [Score("rule", "1", "ok", reward=1.0), Score("judge", "1", status, reason=reason)],  # type: ignore[arg-type]
                1.0,
            )
            for i, (status, reason) in enumerate(judged)
        ]
        return ScoredShard(Shard(0, ()), rows)

    guard = ScoreErrorGuard(0.1, answers=40)
    guard(shard(*[("abstain", NOT_ASKED)] * 19, ("error", "HTTP 500")))
    with pytest.raises(GuardError, match=r"2 of 2 scores of judge failed; most often \(2x\) HTTP 500"):
        guard(shard(*[("abstain", NOT_ASKED)] * 19, ("timeout", "HTTP 500")))


def test_abstentions_are_no_failures_and_count_among_the_answers() -> None:
    guard = ScoreErrorGuard(0.5, answers=2)
    silent = Score("s", "1", "abstain", reason="no number")
    rows = [ScoredSample(Sample("p", 0, "x", [1], [0.0], "stop", 0, 0), [silent], None), *failed("broken").rows]
    guard(ScoredShard(Shard(0, ()), rows))
    assert guard.statuses == {"abstain": 1, "error": 1}
