"""When replicas of the run's pools joined, were lost or sent away, and how busy they were."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from rayalign.dashboard.readings import Report, number
from rayalign.dashboard.tables import Rows, Table
from rayalign.display import MISSING

STATES = ("joined", "lost", "sent away")
MOST_TIMES = 8


def replica_tables(events: Sequence[Report]) -> list[Table]:
    """What the log of a run says of pools that changed, or have several replicas; nothing where none did or has."""
    began = next((when for event in events if (when := moment(event)) is not None), 0.0)
    times: dict[str, dict[str, list[float]]] = {}
    use: dict[str, list[tuple[int, float]]] = {}
    for event in events:
        name, when, share = str(event.get("name")), moment(event), number(event.get("utilisation"))
        if event.get("event") == "replica" and event.get("state") in STATES and when is not None:
            times.setdefault(name, {state: [] for state in STATES})[str(event["state"])].append(when - began)
        if event.get("event") == "pool" and share is not None:
            use.setdefault(f"{name} · {event.get('what')}", []).append((int(number(event.get("replicas")) or 0), share))
    if len(times) == len({name.rpartition("-")[0] for name in times}) and not _changed(times):
        return []
    timeline: Rows = [(name, [(_listed(seen[state]), "") for state in STATES]) for name, seen in sorted(times.items())]
    busy: Rows = [
        (name, [(f"{min(n for n, _ in some)} to {max(n for n, _ in some)}", ""), (f"{_mean(some):.0%}", "")])
        for name, some in sorted(use.items())
    ]
    tables = [Table("Replicas, by seconds since the start", list(STATES), timeline, "replica")]
    if busy:
        tables.append(Table("Pools", ["replicas", "busy while there was work"], busy, "pool"))
    return tables


def _changed(times: dict[str, dict[str, list[float]]]) -> bool:
    return any(len(seen["joined"]) > 1 or seen["lost"] or seen["sent away"] for seen in times.values())


def moment(event: Report) -> float | None:
    """When it was, in seconds; None where it does not say so."""
    try:
        return datetime.datetime.fromisoformat(str(event.get("time"))).timestamp()
    except ValueError:
        return None


def _mean(some: list[tuple[int, float]]) -> float:
    return sum(share for _, share in some) / len(some)


def _listed(seconds: list[float]) -> str:
    shown = ", ".join(f"{one:.0f}" for one in seconds[-MOST_TIMES:])
    return ("… " if len(seconds) > MOST_TIMES else "") + shown or MISSING
