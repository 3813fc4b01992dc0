"""The alarms of a round: what of its trust section a person must look at."""

from __future__ import annotations

from rayalign.records import JsonObject


def alarms(trust: JsonObject) -> list[str]:
    """What of a trust section a person must look at, a sentence each."""
    found = []
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
    for proxy, one in (trust.get("gap") or {}).items():
        if one["proxy"]["ci95"][0] > 0 > one["gold"]["ci95"][1]:
            found.append(f"{proxy} rises while {trust['gold']} falls: the model learns to please the scorer alone")
    return found
