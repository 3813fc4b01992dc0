"""The charts' specifications: valid by Altair's schema, drawn by vl-convert, with the data that they were given."""

from __future__ import annotations

import altair
import pytest

from rayalign.dashboard.charts import (
    COLOURS,
    MAX_DOTS,
    UNDER_POINTER,
    Chart,
    Point,
    Series,
    line_chart,
    round_ticks,
    stacked_bars,
)
from rayalign.dashboard.vega import HEIGHT, bundle, sized, svg


def there(chart: Chart | None) -> Chart:
    """The chart, which is one that a browser and vl-convert can draw."""
    assert chart is not None
    altair.Chart.from_dict({**sized(chart.spec), "width": 300})
    drawn = svg(chart.spec)
    assert drawn.startswith("<svg ") and f'height="{HEIGHT}"' in drawn and "id=" not in drawn and "href" not in drawn
    assert "var(--" in drawn, "colours are the page's"
    return chart


def marks(chart: Chart) -> list[str]:
    return [layer["mark"]["type"] for layer in chart.spec["layer"]]


def test_line_chart_has_every_value_and_its_interval() -> None:
    points = (Point(0, 0.25), Point(1, 0.5, (0.4, 0.6)), Point(2, 0.75, (0.7, 0.8)))
    chart = there(line_chart("Pass rate", [Series("a", points)], "percent", reference=0.5))
    assert chart.spec["data"]["values"] == [
        {"s": "a", "x": 0, "y": 0.25, "t": "25.0%"},
        {"s": "a", "x": 1, "y": 0.5, "t": "50.0% [40.0, 60.0]", "lo": 0.4, "hi": 0.6},
        {"s": "a", "x": 2, "y": 0.75, "t": "75.0% [70.0, 80.0]", "lo": 0.7, "hi": 0.8},
    ]
    assert marks(chart) == ["rule", "area", "line", "rule", "point", "point"]
    assert chart.spec["layer"][0]["encoding"]["y"]["datum"] == 0.5
    assert chart.spec["layer"][-1]["name"] == UNDER_POINTER
    assert (chart.latest, chart.interval, chart.legend) == ("75.0%", "[70.0, 80.0]", ())
    assert chart.alt == "a: 25.0% in round 0, 75.0% in round 2."


def test_curves_without_intervals_have_no_band() -> None:
    chart = there(line_chart("Loss", [Series("loss", (Point(1, 2.0), Point(2, 1.0)))]))
    assert marks(chart) == ["line", "point", "point"]


def test_a_gap_breaks_the_curve_and_is_no_value() -> None:
    """The row without a value lies between its neighbours, so that sorting by round keeps it there."""
    points = (None, Point(1, 1.0), None, Point(4, 2.0), None)
    chart = there(line_chart("t", [Series("s", points)]))
    assert [(row["x"], row["y"]) for row in chart.spec["data"]["values"]] == [(1, 1.0), (2.5, None), (4, 2.0)]


def test_several_curves_have_a_legend_in_the_order_of_their_colours() -> None:
    series = [Series("a", (Point(0, 1.0),)), Series("none", (None,)), Series("b", (Point(0, 2.0),))]
    chart = there(line_chart("t", series, shown=1))
    colour = chart.spec["layer"][0]["encoding"]["color"]["scale"]
    assert colour == {"domain": ["a", "b"], "range": ["var(--c0)", "var(--c1)"]}
    assert chart.legend == ("a", "b") and chart.latest == "2.000"


def test_many_rounds_have_neither_dots_nor_whiskers() -> None:
    points = tuple(Point(index, 0.5, (0.4, 0.6)) for index in range(MAX_DOTS + 1))
    assert marks(there(line_chart("t", [Series("s", points)]))) == ["area", "line", "point"]


def test_charts_of_nothing_are_not_there() -> None:
    assert line_chart("t", [Series("s", (None,))]) is None and line_chart("t", []) is None
    assert stacked_bars("t", ["a"], []) is None and stacked_bars("t", ["a"], [(0, [0.0])]) is None


def test_stacked_bars_stack_in_the_order_of_their_names() -> None:
    chart = there(stacked_bars("Time", ["b", "a"], [(1, [2.0, 6.0]), (2, [3.0, 1.0])], unit="s"))
    assert [(row["x"], row["s"], row["y"], row["o"]) for row in chart.spec["data"]["values"]] == [
        (1, "b", 2.0, 0), (1, "a", 6.0, 1), (2, "b", 3.0, 0), (2, "a", 1.0, 1)
    ]  # fmt: skip
    assert chart.spec["encoding"]["y"]["stack"] == "zero" and chart.legend == ("b", "a")
    assert chart.alt == "Round 2: 4.000 s. Parts: b, a."


def test_parts_beyond_the_colours_are_one() -> None:
    names = [f"p{index}" for index in range(COLOURS + 2)]
    chart = there(stacked_bars("t", names, [(0, [1.0] * len(names))]))
    assert chart.legend == (*names[: COLOURS - 1], "other")
    assert [row["y"] for row in chart.spec["data"]["values"]] == [1.0] * (COLOURS - 1) + [3.0]


@pytest.mark.parametrize("value", [0.0, -3.0, 1e-9, 1e90, 123456.0])
def test_odd_values_are_drawn(value: float) -> None:
    there(line_chart("t", [Series("s", (Point(0, value), Point(1, value)))], reference=0.0))


def test_no_name_stands_in_a_drawing() -> None:
    chart = there(line_chart("<title>", [Series("<script>", (Point(0, 1.0),)), Series("b", (Point(0, 1.0),))]))
    drawn = svg(chart.spec)
    assert "<script" not in drawn and "&lt;" not in drawn and "<title" not in drawn


@pytest.mark.parametrize(
    ("rounds", "shown"),
    [([0], [0]), ([7], [7]), (list(range(11)), list(range(11))), (list(range(12)), [0, 2, 4, 6, 8, 10])],
)
def test_rounds_are_whole_numbers(rounds: list[int], shown: list[int]) -> None:
    assert round_ticks(rounds) == shown


def test_bundle_keeps_its_names_to_itself() -> None:
    """Its own variables have short names that another script may have, too."""
    text = bundle()
    assert text.startswith("(function(){") and text.endswith("})();") and "window.vegaEmbed=" in text
    assert "</script" not in text and "<!--" not in text
