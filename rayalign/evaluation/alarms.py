"""The alarms of a round: what of its trust section a person must look at."""

from __future__ import annotations

from collections.abc import Collection

from rayalign.evaluation.counts import HANDFUL
from rayalign.records import NOT_ASKED, JsonObject


def alarms(trust: JsonObject, penalties: Collection[str] = ()) -> list[str]:
    """What of a trust section a person must look at, a sentence each.

    Args:
        penalties: scorers of negative weight, which rightly find nothing to punish in good answers.
    """
    found = []
    for scorer, facts in (trust.get("scorers") or {}).items():
        if problem := _says_nothing(facts, scorer in penalties):
            found.append(f"{scorer} {problem}")
    canaries = trust.get("canaries") or {}
    if "failed" in canaries:
        found.append(f"the scorers failed on the canaries: {canaries['failed']}")
    for scorer, results in canaries.get("scorers", {}).items():
        winners = [f"{name} on {r['beat']} of {r['compared']} prompts" for name, r in results.items() if r["alarm"]]
        if winners:
            found.append(f"{scorer} puts canaries above the median answer: {', '.join(winners)}")
    moved = trust.get("drift") or {}
    for scorer, one in moved.get("scorers", {}).items():
        if one["alarm"]:
            found.append(
                f"{scorer} drifts: its scores of {one['compared']} fixed answers moved by {one['mean_change']:.3g} on "
                f"average since round {moved['since']}; their standard deviation is {one['spread']:.3g}"
            )
    for proxy in pleased_alone(trust):
        found.append(f"{proxy} rises while {trust['gold']} falls: the model learns to please the scorer alone")
    return found


def pleased_alone(trust: JsonObject) -> list[str]:
    """The scorers of a gap that have risen while the gold one has fallen, each by more than its interval."""
    gap = (trust.get("gap") or {}).items()
    return [name for name, one in gap if one["proxy"]["ci95"][0] > 0 > one["gold"]["ci95"][1]]


def _says_nothing(facts: JsonObject, penalty: bool) -> str | None:
    """Why a scorer's scores of a round tell no answer from another; None where they do, or where there are few."""
    scored, asked = facts["status"].get("ok", 0), facts["answers"] - facts["reasons"].get(f"abstain: {NOT_ASKED}", 0)
    if "always" in facts and not penalty:
        return f"gives every answer the same: {facts['always']:g}, {scored} times"
    if scored == 0 and asked >= HANDFUL and facts["reasons"]:
        reason = max(facts["reasons"], key=lambda name: facts["reasons"][name] * (name != f"abstain: {NOT_ASKED}"))
        return f"gave none of {asked} answers a score; most often {reason}"
    return None
