"""The numbers on top of the report: what the run achieved, and whether the intervals support it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rayalign.dashboard.readings import Reading, Report, number
from rayalign.display import Display, display, format_interval, format_value, headline_metric

Tone = Literal["good", "bad", "plain"]
Readings = Sequence[tuple[int, Mapping[str, Reading]]]


@dataclass(frozen=True, slots=True)
class Bar:
    """A value and its interval on a scale from 0 to 100 (CSS percent)."""

    label: str
    value: float
    low: float
    high: float
    shown: str


@dataclass(frozen=True, slots=True)
class Tile:
    """One number; `before` is what it was in the first round."""

    label: str
    value: str
    before: str = ""
    detail: str = ""
    verdict: str = ""
    tone: Tone = "plain"
    lead: bool = False
    bars: tuple[Bar, ...] = ()


def headline(readings: Readings, reports: Sequence[Report]) -> list[Tile]:
    """The main measure first, then win rate, KL, length and time, as far as known."""
    main = headline_metric([{name: one.value for name, one in metrics.items()} for _, metrics in readings])
    tiles = (_main_tile(main, readings) if main else []) + _win_tiles(readings)
    for name in ("kl_base", "length_tokens"):
        tiles += _plain_tile(name, readings)
    return tiles + _time_tile(reports)


def _ends(name: str, readings: Readings) -> tuple[tuple[int, Reading], tuple[int, Reading]] | None:
    found = [(index, metrics[name]) for index, metrics in readings if name in metrics]
    return (found[0], found[-1]) if found else None


def _main_tile(name: str, readings: Readings) -> list[Tile]:
    ends = _ends(name, readings)
    if ends is None:
        return []
    (first_round, first), (last_round, last) = ends
    shown = display(name)
    value = format_value(last.value, shown.style)
    bars = _bars(ends, shown) if shown.style == "percent" else ()
    if first_round == last_round:
        detail = "" if bars else _interval(last, shown)
        return [Tile(f"{shown.label} in round {last_round}", value, detail=detail, lead=True, bars=bars)]
    verdict, tone = _compare(first, last)
    detail = f"{_change(first, last, shown)} from round {first_round} to round {last_round}"
    before = format_value(first.value, shown.style)
    return [Tile(f"{shown.label} on held-out prompts", value, before, detail, verdict, tone, True, bars)]


def _compare(first: Reading, last: Reading) -> tuple[str, Tone]:
    if first.ci95 is None or last.ci95 is None:
        return "", "plain"
    if last.ci95[0] > first.ci95[1]:
        return "intervals do not overlap", "good"
    if last.ci95[1] < first.ci95[0]:
        return "intervals do not overlap", "bad"
    return "intervals overlap", "plain"


def _change(first: Reading, last: Reading, shown: Display) -> str:
    change = last.value - first.value
    if shown.style == "percent":
        return f"{100 * change:+.1f} points"
    return f"{'+' if change >= 0 else ''}{format_value(change)}"


def _bars(ends: tuple[tuple[int, Reading], tuple[int, Reading]], shown: Display) -> tuple[Bar, ...]:
    bars = []
    for index, one in dict(ends).items():
        low, high = one.ci95 or (one.value, one.value)
        value, low, high = (min(100.0, max(0.0, 100 * bound)) for bound in (one.value, low, high))
        text = f"{format_value(one.value, shown.style)} {_interval(one, shown)}".strip()
        bars.append(Bar(f"round {index}", round(value, 2), round(low, 2), round(high, 2), text))
    return tuple(bars)


def _win_tiles(readings: Readings) -> list[Tile]:
    ends = _ends("win_rate/round_0", readings)
    if ends is None:
        return []
    index, last = ends[1]
    shown = display("win_rate/round_0")
    verdict, tone = _against_tie(last)
    detail = f"{_interval(last, shown)} round {index}".strip()
    return [Tile(shown.label, format_value(last.value, shown.style), detail=detail, verdict=verdict, tone=tone)]


def _against_tie(last: Reading) -> tuple[str, Tone]:
    if last.ci95 is None:
        return "", "plain"
    if last.ci95[0] > 0.5:
        return "better than round 0", "good"
    if last.ci95[1] < 0.5:
        return "worse than round 0", "bad"
    return "no clear difference", "plain"


def _plain_tile(name: str, readings: Readings) -> list[Tile]:
    ends = _ends(name, readings)
    if ends is None:
        return []
    (first_round, first), (last_round, last) = ends
    shown = display(name)
    unit = f" {shown.unit}" if shown.unit else ""
    before = format_value(first.value, shown.style) if first_round != last_round and name == "length_tokens" else ""
    detail = f"{_interval(last, shown)}{unit}".strip()
    return [Tile(shown.label, format_value(last.value, shown.style), before, detail)]


def _interval(one: Reading, shown: Display) -> str:
    return format_interval(*one.ci95, shown.style) if one.ci95 else ""


def _time_tile(reports: Sequence[Report]) -> list[Tile]:
    """Wall time summed over stages; stages that overlap count twice, so it is called stage time."""
    stages = [stages for one in reports if isinstance(stages := one.get("stages"), dict)]
    seconds = [number(stage.get("seconds")) for some in stages for stage in some.values() if isinstance(stage, dict)]
    total = sum(second for second in seconds if second is not None and second > 0)
    if not total:
        return []
    hours, minutes = divmod(int(total) // 60, 60)
    text = (
        f"{hours} h {minutes:02d} min"
        if hours
        else f"{minutes} min {int(total) % 60:02d} s"
        if minutes
        else f"{total:.1f} s"
    )
    return [Tile("stage time", text, detail=f"{len(stages)} round{'s' * (len(stages) != 1)}")]
