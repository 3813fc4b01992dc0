"""Charts of what the machines did: time and tokens per stage, how busy the pools were, and the proofs of each sync."""

from __future__ import annotations

from collections.abc import Sequence

from rayalign.dashboard.charts import COLOURS, Chart, Point, Series, line_chart, stacked_bars
from rayalign.dashboard.readings import Report, Rounds, number, section
from rayalign.dashboard.replicas import STATES, moment
from rayalign.dashboard.round_tables import seconds, stages

ONCE = ("start actors", "measure sync")
"""Stages of the start: they would dwarf those of round 0, and are named beside the chart."""
MINUTE_S = 60.0
MINUTES = "minutes since the start"
MOST_MOMENTS = 300
"""Points of a curve over time."""


def time_charts(rounds: Rounds, events: Sequence[Report]) -> list[Chart]:
    """Seconds and tokens of each stage, round by round."""
    names, rows, at_start = _logged(events) if any(one.get("event") == "stage" for one in events) else _reported(rounds)
    note = "seconds by stage" + (f"; the start took {at_start:.0f} s more" if at_start else "")
    latest = f"{sum(rows[-1][1]):.1f} s" if rows else ""
    of_tokens = _tokens(rounds, names)
    return [
        chart
        for chart in (
            stacked_bars("Time per round", names, rows, unit="s", note=note, latest=latest) if rows else None,
            stacked_bars("Tokens per round", *of_tokens, unit="tokens", note="by stage") if of_tokens[1] else None,
        )
        if chart
    ]


def _reported(rounds: Rounds) -> tuple[list[str], list[tuple[int, list[float]]], float]:
    names, found = stages(rounds)
    return names, [(index, [seconds(named.get(name)) for name in names]) for index, named in found], 0.0


def _logged(events: Sequence[Report]) -> tuple[list[str], list[tuple[int, list[float]]], float]:
    """Seconds by round and stage as the log has them, of all attempts together."""
    took: dict[tuple[int, str], float] = {}
    at_start = 0.0
    for one in events:
        index, name = number(one.get("round")), str(one.get("stage"))
        if one.get("event") != "stage" or index is None:
            continue
        if name in ONCE:
            at_start += seconds(one)
        else:
            took[int(index), name] = took.get((int(index), name), 0.0) + seconds(one)
    totals: dict[str, float] = {}
    for (_, name), spent in took.items():
        totals[name] = totals.get(name, 0.0) + spent
    names = sorted(totals, key=lambda name: -totals[name])
    indices = sorted({index for index, _ in took})
    return names, [(index, [took.get((index, name), 0.0) for name in names]) for index in indices], at_start


def _tokens(rounds: Rounds, order: Sequence[str]) -> tuple[list[str], list[tuple[int, list[float]]]]:
    """Tokens by round and stage, the stages in `order`, so that both charts give them the same colours."""
    names, found = stages(rounds)
    names.sort(key=lambda name: order.index(name) if name in order else len(order))
    rows = [
        (index, [max(0.0, number(section(named.get(name)).get("tokens")) or 0.0) for name in names])
        for index, named in found
    ]
    return names, rows


def pool_charts(events: Sequence[Report]) -> list[Chart]:
    """How busy each pool was, and where replicas came and went how many were there, by minutes since the start."""
    began = next((when for one in events if (when := moment(one)) is not None), 0.0)
    timed = [(one, (when - began) / MINUTE_S) for one in events if (when := moment(one)) is not None]
    busy: dict[str, list[Point]] = {}
    changes: dict[str, list[tuple[float, int]]] = {}
    for one, minutes in timed:
        share, name = number(one.get("utilisation")), str(one.get("name"))
        if one.get("event") == "pool" and share is not None:
            busy.setdefault(f"{name} · {one.get('what')}", []).append(Point(minutes, share))
        if one.get("event") == "replica" and one.get("state") in STATES:
            pool = changes.setdefault(name.rpartition("-")[0] or name, [])
            pool.append((minutes, 1 if one["state"] == "joined" else -1))
    charts = [_busy(busy)]
    if any(len(some) > 1 for some in changes.values()):
        charts.append(_replicas(changes, end=max(minutes for _, minutes in timed)))
    return [chart for chart in charts if chart]


def _busy(pools: dict[str, list[Point]]) -> Chart | None:
    series = [
        Series(name, tuple(points[:: -(-len(points) // MOST_MOMENTS)]))
        for name, points in list(pools.items())[:COLOURS]
    ]
    note = "share of the time with work in which a replica had some"
    return line_chart("Pools at work", series, "percent", note=note, axis=MINUTES)


def _replicas(pools: dict[str, list[tuple[float, int]]], end: float) -> Chart | None:
    series = [Series(name, _steps(changes, end)) for name, changes in list(pools.items())[:COLOURS]]
    return line_chart("Replicas", series, note="ready in each pool", axis=MINUTES)


def _steps(changes: list[tuple[float, int]], end: float) -> tuple[Point, ...]:
    """The number of replicas as a line of steps, up to `end`; of many changes the last ones are drawn."""
    points: list[Point] = []
    count = 0
    for minutes, change in changes:
        points += [Point(minutes, count)] if points else []
        count = max(0, count + change)
        points.append(Point(minutes, count))
    return (*points[-2 * MOST_MOMENTS :], Point(end, count))


def sync_charts(rounds: Rounds, config: Report) -> list[Chart]:
    """How far generator and learner are apart after each sync, against what is allowed and against how far the
    adapter moves: a replica that still served the base would be that far off."""
    tolerance = number(section(config.get("sync")).get("tolerance"))
    proofs = [(index, sync) for index, one in rounds if (sync := section(one.get("sync")))]

    def series(label: str, key: str, more: float = 0.0) -> Series:
        values = [(index, number(sync.get(key))) for index, sync in proofs]
        return Series(label, tuple(None if value is None else Point(index, value + more) for index, value in values))

    curves = [series("difference", "canary_gap")]
    if tolerance is not None:
        curves.append(series("allowed", "base_gap", tolerance))
    curves.append(series("what the adapter moves", "moved"))
    note = "nats per token on fixed answers, generator against learner"
    chart = line_chart("Proof of each sync", curves, note=note)
    return [chart] if chart else []
