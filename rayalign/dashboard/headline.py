"""The numbers on top of the report: what the run achieved, and whether the intervals support it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rayalign.dashboard.curves import Readings
from rayalign.dashboard.readings import Reading, Report, number, section
from rayalign.dashboard.verdicts import ENOUGH_PROMPTS, Verdict, Word, best_round
from rayalign.display import Display, display, format_interval, format_value

Tone = Literal["good", "bad", "plain"]


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
    how: str = ""
    """How the verdict was found."""


def headline(verdict: Verdict | None, readings: Readings, reports: Sequence[Report]) -> list[Tile]:
    """The main measure first, then win rate, best round, KL, length and the gate, as far as known."""
    tiles = (_main_tile(verdict) if verdict else []) + _win_tiles(readings, verdict)
    tiles += _best_tile(verdict, readings) if verdict else []
    for name in ("kl_base", "length_tokens"):
        tiles += _plain_tile(name, readings)
    return tiles + _gate_tile(reports)


def summary(verdict: Verdict | None) -> str:
    """The verdict as a sentence; empty where there is nothing to compare."""
    if verdict is None or not verdict.rounds_differ:
        return ""
    shown = display(verdict.metric)
    before, now = (format_value(one.value, shown.style) for one in (verdict.first[1], verdict.last[1]))
    what = f"{shown.label} {before} in round {verdict.first[0]}, {now} in round {verdict.last[0]}"
    return f"{_SENTENCES[verdict.word].format(verdict.prompts, ENOUGH_PROMPTS)}: {what}."


_SENTENCES: dict[Word, str] = {
    "better": "The model got better",
    "worse": "The model got worse than the base",
    "none": "No clear change",
    "few": "No verdict, {} held-out prompts are fewer than {}",
    "unknown": "Not tested",
}
_CHIPS: dict[Word, tuple[str, Tone]] = {
    "better": ("significantly better", "good"),
    "worse": ("significantly worse", "bad"),
    "none": ("no clear difference", "plain"),
    "few": ("too few prompts for a verdict", "plain"),
    "unknown": ("", "plain"),
}


def _ends(name: str, readings: Readings) -> tuple[tuple[int, Reading], tuple[int, Reading]] | None:
    found = [(index, metrics[name]) for index, metrics in readings if name in metrics]
    return (found[0], found[-1]) if found else None


def _main_tile(verdict: Verdict) -> list[Tile]:
    shown, (last_round, last) = display(verdict.metric), verdict.last
    value = format_value(last.value, shown.style)
    bars = _bars((verdict.first, verdict.last), shown) if shown.style == "percent" else ()
    if not verdict.rounds_differ:
        detail = "" if bars else _interval(last, shown)
        return [Tile(f"{shown.label} in round {last_round}", value, detail=detail, lead=True, bars=bars)]
    between = f" {_points(verdict.interval, shown)}" if verdict.interval else ""
    detail = f"{_change(verdict.difference, shown)}{between} from round {verdict.first[0]} to round {last_round}"
    on = "held-out prompts" if verdict.prompts is None else f"{verdict.prompts} held-out prompts"
    before = format_value(verdict.first[1].value, shown.style)
    chip, tone = _CHIPS[verdict.word]
    return [Tile(f"{shown.label} on {on}", value, before, detail, chip, tone, True, bars, verdict.how)]


def _change(change: float, shown: Display) -> str:
    if shown.style == "percent":
        return f"{100 * change:+.1f} points"
    return f"{'+' if change >= 0 else ''}{format_value(change)}"


def _points(interval: tuple[float, float], shown: Display) -> str:
    """An interval of a difference: of shares in points."""
    if shown.style == "percent":
        return f"[{100 * interval[0]:+.1f}, {100 * interval[1]:+.1f}]"
    return format_interval(*interval)


def _bars(ends: tuple[tuple[int, Reading], tuple[int, Reading]], shown: Display) -> tuple[Bar, ...]:
    bars = []
    for index, one in dict(ends).items():
        low, high = one.ci95 or (one.value, one.value)
        value, low, high = (min(100.0, max(0.0, 100 * bound)) for bound in (one.value, low, high))
        text = f"{format_value(one.value, shown.style)} {_interval(one, shown)}".strip()
        bars.append(Bar(f"round {index}", round(value, 2), round(low, 2), round(high, 2), text))
    return tuple(bars)


def _win_tiles(readings: Readings, verdict: Verdict | None) -> list[Tile]:
    ends = _ends("win_rate/round_0", readings)
    if ends is None:
        return []
    index, last = ends[1]
    shown = display("win_rate/round_0")
    few = verdict is not None and verdict.word == "few"
    chip, tone = _CHIPS["few"] if few else _against_tie(last)
    detail = f"{_interval(last, shown)} round {index}".strip()
    return [Tile(shown.label, format_value(last.value, shown.style), detail=detail, verdict=chip, tone=tone)]


def _best_tile(verdict: Verdict, readings: Readings) -> list[Tile]:
    if not verdict.rounds_differ:
        return []
    index, best = best_round(verdict, readings)
    shown = display(verdict.metric)
    detail = f"{shown.label} {format_value(best.value, shown.style)} {_interval(best, shown)}".strip()
    said = "the base model" if index == 0 else "the latest" if index == verdict.last[0] else ""
    return [Tile("best round", str(index), detail=detail, verdict=said)]


def _gate_tile(reports: Sequence[Report]) -> list[Tile]:
    """How often the publish gate let a round pass, and what it did last where it did not."""
    gates = [(one.get("round"), gate) for one in reports if (gate := section(one.get("gate"))).get("did")]
    if not gates:
        return []
    held = [(index, gate) for index, gate in gates if gate["did"] != "kept"]
    detail = f"by {gates[-1][1].get('metric')}, action {gates[-1][1].get('action')}"
    if held:
        detail += f"; round {held[-1][0]}: {held[-1][1]['did']}, best {held[-1][1].get('best_round')}"
    tone: Tone = "bad" if held else "good"
    chip = "a round was held back" if held else "every round passed"
    return [Tile("publish gate", f"{len(gates) - len(held)} of {len(gates)}", detail=detail, verdict=chip, tone=tone)]


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


def stage_time(reports: Sequence[Report]) -> str:
    """Wall time summed over stages, in words; stages that overlap count twice, so it is called stage time."""
    stages = [stages for one in reports if isinstance(stages := one.get("stages"), dict)]
    seconds = [number(stage.get("seconds")) for some in stages for stage in some.values() if isinstance(stage, dict)]
    total = sum(second for second in seconds if second is not None and second > 0)
    hours, minutes = divmod(int(total) // 60, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {int(total) % 60:02d} s" if minutes else f"{total:.1f} s" if total else ""
