"""Comparisons in both orders -> a reward per answer: its share of wins within the prompt's group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal, Self

Status = Literal["ok", "error", "timeout"]


def pairs_of(answers: int, opponents: int) -> list[tuple[int, int]]:
    """Which answers meet: every pair, or each answer and the `opponents` next ones in a ring.

    >>> pairs_of(4, 0)
    [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    >>> pairs_of(4, 1)
    [(0, 1), (1, 2), (2, 3), (0, 3)]
    """
    if opponents == 0:
        return list(combinations(range(answers), 2))
    ring = [(i, (i + step) % answers) for step in range(1, opponents + 1) for i in range(answers)]
    return list(dict.fromkeys((min(pair), max(pair)) for pair in ring if pair[0] != pair[1]))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a judge, asked in both orders, says of two answers."""

    a: int
    b: int
    winner: int | None
    """None is a tie, which orders that disagree also are; not read unless `status` is ok."""
    flipped: bool
    """The two orders disagree."""
    status: Status
    reason: str | None
    latency_s: float = 0.0
    cost: float = 0.0
    asked: bool = True
    cached: int = 0
    """How many of the two replies a cache gave."""

    @classmethod
    def equal(cls, a: int, b: int) -> Self:
        """Two answers of the same text: a tie that nobody need be asked about."""
        return cls(a, b, None, False, "ok", None, asked=False)


@dataclass(frozen=True, slots=True)
class Standing:
    """One answer's results against the others of its group."""

    status: Status | Literal["abstain"]
    share: float | None = None
    """Wins plus half of the ties, over the comparisons with an outcome."""
    preferred_over: int | None = None
    aspects: dict[str, float] = field(default_factory=dict)
    latency_s: float = 0.0
    cost: float = 0.0
    reason: str | None = None


def tally(answers: int, outcomes: Sequence[Outcome]) -> list[Standing]:
    """The standing of each answer.

    An answer of whose comparisons fewer than half have an outcome has no share: what is left would say too little.
    `preferred_over` is the answer it beat whose own share is the lowest, the first of equals.
    `aspects`: `comparisons` that the judge was asked for, `flips` among them, and `cached`, the replies to them that a
    cache gave, if any. Each comparison is paid for by both of its answers in halves, so that costs add up.
    """
    own = [[one for one in outcomes if i in (one.a, one.b)] for i in range(answers)]
    shares = [_share(i, mine) for i, mine in enumerate(own)]
    return [_standing(i, mine, shares) for i, mine in enumerate(own)]


def _share(i: int, mine: Sequence[Outcome]) -> float | None:
    decided = [one for one in mine if one.status == "ok"]
    if not decided or 2 * len(decided) < len(mine):
        return None
    return sum(0.5 if one.winner is None else float(one.winner == i) for one in decided) / len(decided)


def _standing(i: int, mine: Sequence[Outcome], shares: Sequence[float | None]) -> Standing:
    decided = [one for one in mine if one.status == "ok"]
    judged = [one for one in decided if one.asked]
    aspects = {"comparisons": float(len(judged)), "flips": float(sum(one.flipped for one in judged))}
    if cached := sum(one.cached for one in judged):
        aspects["cached"] = float(cached)
    latency_s, cost = max((one.latency_s for one in mine), default=0.0), sum(one.cost for one in mine) / 2
    if not mine:
        return Standing("abstain", reason="a comparison needs two answers to a prompt")
    if shares[i] is None:
        failed = [one for one in mine if one.status != "ok"]
        status = "timeout" if all(one.status == "timeout" for one in failed) else "error"
        reason = f"{len(failed)} of {len(mine)} comparisons failed: {failed[0].reason}"
        return Standing(status, aspects=aspects, latency_s=latency_s, cost=cost, reason=reason)
    beaten = [one.b if one.a == i else one.a for one in decided if one.winner == i]
    over = min(beaten, key=lambda j: (shares[j] if shares[j] is not None else 1.0, j), default=None)
    return Standing("ok", shares[i], over, aspects, latency_s, cost)
