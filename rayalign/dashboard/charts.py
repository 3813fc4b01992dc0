"""Charts as inline SVG: curves with shaded 95 % intervals, and stacked bars. Colours come from the page's CSS.

Every text goes through `Markup.format`, which escapes it: labels may hold names that users or models chose.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from rayalign.display import format_interval, format_value

Style = Literal["percent", "number"]

WIDTH, HEIGHT = 420, 220
LEFT, RIGHT, TOP, BOTTOM = 48, 14, 12, 34
COLOURS = 6
MAX_DOTS = 40
"""With more rounds than this, dots run into each other and gaps between bars flicker: neither is drawn."""


@dataclass(frozen=True, slots=True)
class Point:
    """One round's value with its 95 % interval, if it has one."""

    x: int
    y: float
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """One curve; None where a round has no value (the curve breaks there)."""

    label: str
    points: tuple[Point | None, ...]

    @property
    def present(self) -> list[Point]:
        return [point for point in self.points if point is not None]


@dataclass(frozen=True, slots=True)
class Frame:
    """Maps data to the drawing area."""

    x_range: tuple[float, float]
    ticks: tuple[float, ...]

    def x(self, value: float) -> float:
        low, high = self.x_range
        share = 0.5 if high == low else (value - low) / (high - low)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high = self.ticks[0], self.ticks[-1]
        share = (min(max(value, low), high) - low) / (high - low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def line_chart(
    chart_id: str, title: str, series: Sequence[Series], style: Style = "number", reference: float | None = None
) -> Markup:
    """Curves over rounds, with a dashed line at `reference`.

    Raises:
        ValueError: no series has a point.
    """
    points = [point for one in series for point in one.present]
    if not points:
        raise ValueError(f"chart {title!r} has no points: leave it out")
    values = [value for point in points for value in (point.y, *(point.interval or ()))]
    values += [] if reference is None else [reference]
    rounds = [point.x for point in points]
    frame = Frame((min(rounds), max(rounds)), ticks(min(values), max(values), share=style == "percent"))
    parts = [_axes(frame, rounds, lambda value: format_tick(value, frame.ticks, style))]
    if reference is not None:
        line = '<line class="reference" x1="{}" x2="{}" y1="{y}" y2="{y}"/>'
        parts.append(Markup(line).format(LEFT, WIDTH - RIGHT, y=f"{frame.y(reference):.1f}"))
    parts += [_bands(frame, one, index % COLOURS) for index, one in enumerate(series)]
    parts += [_curve(frame, one, index % COLOURS, style) for index, one in enumerate(series)]
    return _svg(chart_id, title, " ".join(_describe(one, style) for one in series if one.present), parts)


def stacked_bars(
    chart_id: str, title: str, names: Sequence[str], rows: Sequence[tuple[int, Sequence[float]]], unit: str
) -> Markup:
    """A bar per round, made of one part per name.

    Raises:
        ValueError: no rows.
    """
    if not rows:
        raise ValueError(f"chart {title!r} has no rows: leave it out")
    rounds = [round_index for round_index, _ in rows]
    highest = max(sum(values) for _, values in rows)
    frame = Frame((min(rounds) - 0.5, max(rounds) + 0.5), ticks(0.0, highest))
    slots = max(rounds) - min(rounds) + 1
    bar = min(36.0, (0.72 if slots <= MAX_DOTS else 1.05) * (WIDTH - LEFT - RIGHT) / slots)
    parts = [_axes(frame, rounds, lambda value: format_tick(value, frame.ticks, "number"))]
    rect = Markup(
        '<rect class="f{}" x="{:.2f}" y="{:.1f}" width="{:.2f}" height="{:.1f}">'
        "<title>round {} · {}: {:.1f} {}</title></rect>"
    )
    for round_index, values in rows:
        base = 0.0
        for index, (name, value) in enumerate(zip(names, values, strict=True)):
            top, bottom = frame.y(base + value), frame.y(base)
            x = frame.x(round_index) - bar / 2
            parts.append(rect.format(index % COLOURS, x, top, bar, bottom - top, round_index, name, value, unit))
            base += value
    last = f"Round {rows[-1][0]}: {sum(rows[-1][1]):.1f} {unit}. Parts: {', '.join(names)}."
    return _svg(chart_id, title, last, parts)


def ticks(low: float, high: float, *, share: bool = False) -> tuple[float, ...]:
    """About five round numbers that enclose [low, high]; within [0, 1] for a share.

    >>> ticks(0.38, 0.71, share=True)
    (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
    >>> ticks(0.0, 7.0)
    (0.0, 2.0, 4.0, 6.0, 8.0)
    """
    share = share and low >= 0 and high <= 1
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        pad = 0.05 if share else abs(high) * 0.1 or 0.5
        low, high = (max(0.0, low - pad) if low >= 0 else low - pad), high + pad
        if share:
            high = min(1.0, high)
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((factor * power for factor in (1, 2, 2.5, 5) if factor * power >= rough * 0.8), 10 * power)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    values = (
        round(position * step, 12) if abs(step) > 1e-9 else position * step for position in range(first, last + 1)
    )
    return tuple(value for value in values if not share or -1e-9 <= value <= 1 + 1e-9)


def format_tick(value: float, all_ticks: Sequence[float], style: Style) -> str:
    """As few digits as tell neighbouring ticks apart."""
    factor = 100.0 if style == "percent" else 1.0
    step = factor * (all_ticks[1] - all_ticks[0])
    if step < 1e-4 or max(abs(tick) for tick in all_ticks) >= 1e5:
        return f"{factor * value:.2g}"
    digits = next((digits for digits in range(5) if abs(round(step, digits) - step) < 1e-6 * step), 5)
    return f"{factor * value:.{digits}f}{'%' if style == 'percent' else ''}"


def round_ticks(rounds: Sequence[int]) -> list[int]:
    """At most about ten of the rounds, evenly spaced."""
    low, high = min(rounds), max(rounds)
    steps = (factor * 10**power for power in range(20) for factor in (1, 2, 5))
    step = next(step for step in steps if high - low <= 10 * step)
    return [value for value in range(low, high + 1) if value % step == 0] or [low]


def _axes(frame: Frame, rounds: Sequence[int], label: Callable[[float], str]) -> Markup:
    parts = []
    horizontal = Markup(
        '<line class="grid" x1="{}" x2="{}" y1="{y:.1f}" y2="{y:.1f}"/>'
        '<text class="tick" x="{}" y="{text_y:.1f}" text-anchor="end">{}</text>'
    )
    for tick in frame.ticks:
        y = frame.y(tick)
        parts.append(horizontal.format(LEFT, WIDTH - RIGHT, LEFT - 7, label(tick), y=y, text_y=y + 3.5))
    below = Markup('<text class="tick" x="{:.1f}" y="{}" text-anchor="middle">{}</text>')
    parts += [below.format(frame.x(value), HEIGHT - BOTTOM + 15, value) for value in round_ticks(rounds)]
    parts.append(below.format((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 3, "round"))
    return Markup("").join(parts)


def _runs(points: Sequence[Point | None]) -> list[list[Point]]:
    """Stretches of points without a gap."""
    runs: list[list[Point]] = [[]]
    for point in points:
        if point is None:
            runs.append([])
        else:
            runs[-1].append(point)
    return [run for run in runs if run]


def _bands(frame: Frame, series: Series, colour: int) -> Markup:
    parts = []
    gaps = [point if point is not None and point.interval else None for point in series.points]
    for run in _runs(gaps):
        upper = [(frame.x(point.x), frame.y(point.interval[1])) for point in run if point.interval]
        lower = [(frame.x(point.x), frame.y(point.interval[0])) for point in run if point.interval]
        if len(run) == 1:
            line = '<line class="whisker s{}" x1="{x:.1f}" x2="{x:.1f}" y1="{:.1f}" y2="{:.1f}"/>'
            parts.append(Markup(line).format(colour, upper[0][1], lower[0][1], x=upper[0][0]))
        else:
            outline = " ".join(f"{x:.1f},{y:.1f}" for x, y in [*upper, *reversed(lower)])
            parts.append(Markup('<polygon class="band f{}" points="{}"/>').format(colour, outline))
    return Markup("").join(parts)


def _curve(frame: Frame, series: Series, colour: int, style: Style) -> Markup:
    parts = []
    for run in _runs(series.points):
        if len(run) > 1:
            path = " ".join(f"{frame.x(point.x):.1f},{frame.y(point.y):.1f}" for point in run)
            parts.append(Markup('<polyline class="curve s{}" points="{}"/>').format(colour, path))
    dot = Markup(
        '<g class="dot s{}"><circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="{}"/>'
        '<circle class="target" cx="{x:.1f}" cy="{y:.1f}" r="9"/><title>{}</title></g>'
    )
    present = series.present
    for point in present:
        radius = 3.2 if len(present) <= MAX_DOTS or point is present[-1] else 0
        interval = f" {format_interval(*point.interval, style)}" if point.interval else ""
        tip = f"{series.label}, round {point.x}: {format_value(point.y, style)}{interval}"
        parts.append(dot.format(colour, radius, tip, x=frame.x(point.x), y=frame.y(point.y)))
    return Markup("").join(parts)


def _describe(series: Series, style: Style) -> str:
    first, last = series.present[0], series.present[-1]
    text = f"{series.label}: {format_value(first.y, style)} in round {first.x}"
    if last.x != first.x:
        text += f", {format_value(last.y, style)} in round {last.x}"
    return text + "."


def _svg(chart_id: str, title: str, description: str, parts: Sequence[Markup]) -> Markup:
    return Markup(
        '<svg viewBox="0 0 {} {}" role="img" aria-labelledby="{id}-title {id}-desc" class="chart">'
        '<title id="{id}-title">{}</title><desc id="{id}-desc">{}</desc>{}</svg>'
    ).format(WIDTH, HEIGHT, title, description, Markup("").join(parts), id=chart_id)
