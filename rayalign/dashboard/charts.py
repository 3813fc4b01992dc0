"""Charts as Vega-Lite specifications, plain dictionaries: the browser draws them, vl-convert makes their SVG.

Colours are the page's CSS variables, so one drawing serves light and dark. No text of a user or a model stands in a
drawing: names are in the legend beside it, in the tooltips and in the alternative text, all of which are escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rayalign.display import format_interval, format_value
from rayalign.records import JsonObject

Style = Literal["percent", "number"]

COLOURS = 6
MAX_DOTS = 40
"""With more rounds than this dots run into each other: they are then seen under the pointer only."""
UNDER_POINTER = "pointer"
"""Name of the layer that only answers a pointer."""
MANY, TOO_MANY = 1e4, 1e15
"""Between these sizes an axis says 20k rather than 20000 or 2e4."""
WIDEST_BAR = 40
"""Pixels."""
ZOOM: JsonObject = {
    "name": "zoom",
    "select": {"type": "interval", "zoom": "wheel![event.ctrlKey || event.metaKey]"},
    "bind": "scales",
}

BAND: JsonObject = {"type": "area", "opacity": 0.16, "line": False, "clip": True}
LINE: JsonObject = {"type": "line", "strokeWidth": 2.2, "strokeJoin": "round", "strokeCap": "round", "clip": True}
WHISKER: JsonObject = {"type": "rule", "opacity": 0.55, "strokeWidth": 1.4, "clip": True}
DOT: JsonObject = {"type": "point", "fill": "var(--card)", "strokeWidth": 2, "size": 34, "opacity": 1, "clip": True}
TARGET: JsonObject = {"type": "point", "filled": True, "size": 420, "opacity": 0, "clip": True}
RULE: JsonObject = {"type": "rule", "strokeDash": [4, 4], "color": "var(--soft)", "clip": True}


@dataclass(frozen=True, slots=True)
class Point:
    """One value with its 95 % interval, if it has one; `x` is its round, or another number."""

    x: float
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
class Chart:
    """A drawing and what stands around it."""

    title: str
    spec: JsonObject
    """Without size and config, which `vega.py` adds."""
    alt: str
    """What it shows, in words."""
    note: str = ""
    legend: tuple[str, ...] = ()
    """One name per colour, in their order."""
    latest: str = ""
    """The latest value, beside the title."""
    interval: str = ""


def line_chart(
    title: str,
    series: Sequence[Series],
    style: Style = "number",
    *,
    note: str = "",
    reference: float | None = None,
    shown: int = 0,
    axis: str = "round",
    all_named: bool = False,
) -> Chart | None:
    """Curves with their intervals as bands, and a dashed line at `reference`; None where no series has a point.

    Args:
        shown: which series' latest value stands beside the title.
        axis: what the numbers from left to right are.
        all_named: whether series without a point have their colour and their place in the legend too.
    """
    named = [one.label for one in series if one.present or all_named]
    series = [one for one in series if one.present]
    if not series:
        return None
    latest = series[min(shown, len(series) - 1)].present[-1]
    values = [row for one in series for row in _rows(one, style)]
    rounds = sorted({int(point.x) for one in series for point in one.present}) if axis == "round" else []
    shared = {"x": _rounds_x(axis, rounds), "color": _colour("s", named)}
    y = _value_y(style, max(abs(point.y) for one in series for point in one.present))
    layers = _line_layers(series, shared, y, axis)
    if reference is not None:
        layers.insert(0, _reference(reference, y))
    spec: JsonObject = {"data": {"values": values}, "layer": layers}
    return Chart(
        title,
        spec,
        " ".join(_describe(one, style, axis) for one in series),
        note,
        tuple(named) if len(named) > 1 else (),
        format_value(latest.y, style),
        format_interval(*latest.interval, style) if latest.interval else "",
    )


def _rows(series: Series, style: Style) -> list[JsonObject]:
    """One row per point; between two points a gap is a row without a value, at which the curve breaks."""
    rows: list[JsonObject] = []
    gap = False
    for point in series.points:
        if point is None:
            gap = True
            continue
        if gap and rows:
            rows.append({"s": series.label, "x": (rows[-1]["x"] + point.x) / 2, "y": None})
        gap = False
        between = f" {format_interval(*point.interval, style)}" if point.interval else ""
        row = {"s": series.label, "x": point.x, "y": point.y, "t": format_value(point.y, style) + between}
        rows.append(row | ({"lo": point.interval[0], "hi": point.interval[1]} if point.interval else {}))
    return rows


def _line_layers(series: Sequence[Series], shared: JsonObject, y: JsonObject, axis: str) -> list[JsonObject]:
    """From the bottom: bands, lines, and with few rounds whiskers and dots; on top what answers a pointer."""
    value, between = {"y": {"field": "y", **y}}, {"y": {"field": "lo", **y}, "y2": {"field": "hi"}}
    there = [{"filter": "isValid(datum.y)"}]
    bounded = any(point.interval for one in series for point in one.present)
    dotted = max(len(one.present) for one in series) <= MAX_DOTS
    layers: list[JsonObject] = [{"mark": LINE, "encoding": {**shared, **value}, "params": [ZOOM]}]
    if bounded:
        layers.insert(0, {"mark": BAND, "encoding": {**shared, **between}})
    if bounded and dotted:
        some = [{"filter": "isValid(datum.lo)"}]
        layers.append({"mark": WHISKER, "encoding": {**shared, **between}, "transform": some})
    if dotted:
        layers.append({"mark": DOT, "encoding": {**shared, **value}, "transform": there})
    tips = [_tip("s", "curve", "nominal"), _tip("x", axis, "quantitative"), _tip("t", "value", "nominal")]
    pointed = {**shared, **value, "tooltip": tips}
    return [*layers, {"name": UNDER_POINTER, "mark": TARGET, "encoding": pointed, "transform": there}]


def _reference(value: float, y: JsonObject) -> JsonObject:
    return {"mark": RULE, "encoding": {"y": {"datum": value, **y}}}


def stacked_bars(
    title: str,
    names: Sequence[str],
    rows: Sequence[tuple[int, Sequence[float]]],
    *,
    unit: str = "",
    note: str = "",
    latest: str = "",
) -> Chart | None:
    """A bar per round, made of one part per name, the first at the bottom; None where all is 0. More than six names
    make the last part `other`."""
    if not any(value > 0 for _, values in rows for value in values):
        return None
    if len(names) > COLOURS:
        rows = [(index, [*values[: COLOURS - 1], sum(values[COLOURS - 1 :])]) for index, values in rows]
        names = [*names[: COLOURS - 1], "other"]
    data = [
        {"x": index, "s": name, "y": value, "o": place, "t": f"{format_value(value)} {unit}".strip()}
        for index, values in rows
        for place, (name, value) in enumerate(zip(names, values, strict=True))
    ]
    ticks, highest = round_ticks([index for index, _ in rows]), max(sum(values) for _, values in rows)
    tips = [_tip("s", "part", "nominal"), _tip("x", "round", "ordinal"), _tip("t", "value", "nominal")]
    spec: JsonObject = {
        "data": {"values": data},
        "mark": {"type": "bar", "width": min(WIDEST_BAR, max(1, 300 // len(rows))), "stroke": "var(--card)"},
        "encoding": {
            "x": {
                "field": "x",
                "type": "ordinal",
                "axis": {"title": "round", "values": ticks, "labelAngle": 0},
            },
            "y": {"field": "y", "type": "quantitative", "stack": "zero", "axis": value_axis(highest)},
            "order": {"field": "o", "type": "quantitative"},
            "color": _colour("s", names),
            "tooltip": tips,
        },
    }
    last, values = rows[-1]
    alt = f"Round {last}: {format_value(sum(values))} {unit}".rstrip() + f". Parts: {', '.join(names)}."
    return Chart(title, spec, alt, note, tuple(names), latest)


def round_ticks(rounds: Sequence[int]) -> list[int]:
    """At most about ten of the rounds, evenly spaced."""
    low, high = min(rounds), max(rounds)
    steps = (factor * 10**power for power in range(20) for factor in (1, 2, 5))
    step = next(step for step in steps if high - low <= 10 * step)
    return [value for value in range(low, high + 1) if value % step == 0] or [low]


def colours(count: int) -> list[str]:
    """The page's colours of curves, as CSS."""
    return [f"var(--c{index % COLOURS})" for index in range(count)]


def _rounds_x(axis: str, rounds: Sequence[int]) -> JsonObject:
    whole = {"format": "d", "values": round_ticks(rounds)} if rounds else {}
    return {
        "field": "x",
        "type": "quantitative",
        "scale": {"zero": False, "nice": False, "padding": 10},
        "axis": {"title": axis, **whole},
    }


def _value_y(style: Style, largest: float) -> JsonObject:
    return {"type": "quantitative", "scale": {"zero": False, "nice": True}, "axis": value_axis(largest, style)}


def value_axis(largest: float, style: Style = "number", title: str | None = None) -> JsonObject:
    """An axis of values whose size is at most `largest`."""
    number = ".3~s" if MANY <= largest < TOO_MANY else ".4~g"
    return {"title": title, "format": ".3~p" if style == "percent" else number}


def _colour(field: str, names: Sequence[str]) -> JsonObject:
    scale = {"domain": list(names), "range": colours(len(names))}
    return {"field": field, "type": "nominal", "scale": scale, "legend": None}


def _tip(field: str, title: str, kind: str) -> JsonObject:
    return {"field": field, "type": kind, "title": title}


def _describe(series: Series, style: Style, axis: str) -> str:
    first, last = series.present[0], series.present[-1]
    text = f"{series.label}: {format_value(first.y, style)} in {axis} {first.x:g}"
    if last.x != first.x:
        text += f", {format_value(last.y, style)} in {axis} {last.x:g}"
    return text + "."
