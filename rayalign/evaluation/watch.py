"""What a guard finds wrong with a round, from its report and those before it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rayalign.config.guards import (
    CanariesGuard,
    DiversityGuard,
    DriftGuard,
    Guard,
    HackingGuard,
    KlGuard,
    LengthGuard,
    LossGuard,
    NoGainGuard,
    ScoresGuard,
    WorseGuard,
)
from rayalign.display import format_value
from rayalign.evaluation.alarms import pleased_alone
from rayalign.evaluation.paired import LEVEL
from rayalign.records import JsonObject


@dataclass(frozen=True, slots=True)
class Seen:
    """A round, as guards see it."""

    report: JsonObject
    """Its metrics, comparisons, trust section, training metrics."""
    before: Sequence[JsonObject]
    """The reports of the rounds before it."""
    spread: float | None
    """Standard deviation of round 0's prompts by the metric of the comparisons; null where there is none."""
    level: float
    """Of one test: the run makes as many as it has evaluated rounds."""
    best: int = 0
    """The best round before it."""
    gap: JsonObject = field(default_factory=dict)
    """As `trust.gap`, since that round where it is not the first."""

    def value(self, name: str) -> float | None:
        return _value(self.report, name)

    def first(self, name: str) -> float | None:
        """The same in the first evaluated round."""
        found = (_value(one, name) for one in self.before)
        return next((value for value in found if value is not None), None)


def _value(report: JsonObject, name: str) -> float | None:
    return ((report.get("metrics") or {}).get(name) or {}).get("value")


def found_by(guard: Guard, seen: Seen) -> str | None:
    """What a guard finds, in words; None where all is well, or the round says nothing of it."""
    return FINDERS[type(guard)](guard, seen)


def _worse(guard: WorseGuard, seen: Seen) -> str | None:
    against = (seen.report.get("comparisons") or {}).get("round_0")
    if against is None or not seen.spread:
        return None
    difference = against["difference"]["value"]
    far = -difference / seen.spread
    # One-sided: half of the two-sided p, where the difference points there.
    if difference >= 0 or against["p"] / 2 > seen.level or far < guard.by:
        return None
    return (
        f"{against['metric']} is {format_value(-difference)} below round {against['round']}'s, {far:.1f} of its "
        f"prompts' standard deviations (p {against['p'] / 2:.1g})"
    )


def _hacking(guard: HackingGuard, seen: Seen) -> str | None:
    trust = seen.report.get("trust") or {}
    gold = trust.get("gold")
    if fooled := pleased_alone(trust):
        return f"{', '.join(fooled)} rises while {gold} falls"
    if fooled := pleased_alone({"gap": seen.gap}):
        return f"{', '.join(fooled)} rises while {gold} falls, since round {seen.best}"
    return None


def _kl(guard: KlGuard, seen: Seen) -> str | None:
    kl = seen.value("kl_base")
    return f"kl_base is {format_value(kl)} nats, above {guard.above:g}" if kl is not None and kl > guard.above else None


def _loss(guard: LossGuard, seen: Seen) -> str | None:
    loss = (seen.report.get("training") or {}).get("loss")
    earlier = [one["training"]["loss"] for one in seen.before if (one.get("training") or {}).get("loss") is not None]
    if loss is None or not earlier:
        return None
    usual = statistics.median(map(abs, earlier))
    if math.isfinite(loss) and abs(loss) <= guard.above * usual:
        return None
    return f"the loss is {format_value(loss)}, above {guard.above:g} times the {format_value(usual)} of earlier rounds"


def _length(guard: LengthGuard, seen: Seen) -> str | None:
    now, first = seen.value("length_tokens"), seen.first("length_tokens")
    if not now or not first or 1 / guard.above <= now / first <= guard.above:
        return None
    return f"answers have {format_value(now)} tokens, {now / first:.2g} times round 0's"


def _diversity(guard: DiversityGuard, seen: Seen) -> str | None:
    now, first = seen.value("distinct_2"), seen.first("distinct_2")
    if now is None or not first or now >= guard.below * first:
        return None
    return f"distinct_2 is {now / first:.0%} of round 0's"


def _canaries(guard: CanariesGuard, seen: Seen) -> str | None:
    scorers = ((seen.report.get("trust") or {}).get("canaries") or {}).get("scorers", {})
    fooled = [name for name, results in scorers.items() if any(one["alarm"] for one in results.values())]
    return f"{', '.join(fooled)} puts canaries above the median answer" if fooled else None


def _drift(guard: DriftGuard, seen: Seen) -> str | None:
    scorers = ((seen.report.get("trust") or {}).get("drift") or {}).get("scorers", {})
    moved = [name for name, one in scorers.items() if one["alarm"]]
    return f"{', '.join(moved)} drifts: its scores of fixed answers have moved" if moved else None


def _scores(guard: ScoresGuard, seen: Seen) -> str | None:
    scorers = (seen.report.get("trust") or {}).get("scorers") or {}
    shares = {name: _failed(facts) for name, facts in scorers.items()}
    bad = {name: share for name, share in shares.items() if share > guard.above}
    return ", ".join(f"{name} failed on {share:.1%} of the answers" for name, share in bad.items()) or None


def _failed(facts: Mapping[str, Any]) -> float:
    status = facts["status"]
    failed = status.get("error", 0) + status.get("timeout", 0)
    return failed / max(1, failed + status.get("ok", 0))


def _no_gain(guard: NoGainGuard, seen: Seen) -> str | None:
    rounds = [one for one in (*seen.before, seen.report) if one.get("comparisons")]
    if len(rounds) < guard.rounds:
        return None
    for one in rounds[-guard.rounds :]:
        best = one["comparisons"].get("best")
        if best is None or (best["difference"]["value"] > 0 and best["p_holm"] <= LEVEL):
            return None
    return f"no round of the last {guard.rounds} was significantly better than the best one before it"


FINDERS: Mapping[type[Any], Callable[[Any, Seen], str | None]] = {
    WorseGuard: _worse,
    HackingGuard: _hacking,
    KlGuard: _kl,
    LossGuard: _loss,
    LengthGuard: _length,
    DiversityGuard: _diversity,
    CanariesGuard: _canaries,
    DriftGuard: _drift,
    ScoresGuard: _scores,
    NoGainGuard: _no_gain,
}
