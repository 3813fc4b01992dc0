"""The SVG charts: coordinates derived by hand, and axes for odd ranges."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from rayalign.dashboard.charts import Point, Series, format_tick, line_chart, round_ticks, stacked_bars, ticks


def svg(markup: str) -> ElementTree.Element:
    return ElementTree.fromstring(str(markup))


def test_line_chart_puts_points_where_they_belong() -> None:
    """Ticks of [0, 8] are 0, 2 .. 8; the drawing area is x 48..406, y 186 (0) .. 12 (8).

    Rounds 0, 1, 2 stand at x 48, 227, 406; values 0, 4, 8 at y 186, 99, 12.
    """
    points = (Point(0, 0.0), Point(1, 4.0, (2.0, 6.0)), Point(2, 8.0, (8.0, 8.0)))
    drawn = svg(line_chart("c", "A & B", [Series("<s>", points)], reference=4.0))
    assert drawn.find("title").text == "A & B"  # type: ignore[union-attr]
    assert drawn.find("desc").text == "<s>: 0.000 in round 0, 8.000 in round 2."  # type: ignore[union-attr]
    assert drawn.find("polyline").get("points") == "48.0,186.0 227.0,99.0 406.0,12.0"  # type: ignore[union-attr]
    assert drawn.find("polygon").get("points") == "227.0,55.5 406.0,12.0 406.0,12.0 227.0,142.5"  # type: ignore[union-attr]
    reference = next(line for line in drawn.iter("line") if line.get("class") == "reference")
    assert (reference.get("y1"), reference.get("y2")) == ("99.0", "99.0")
    assert [title.text for title in drawn.findall("g/title")][1] == "<s>, round 1: 4.000 [2.000, 6.000]"


def test_reference_is_inside_the_frame() -> None:
    """One value 1.0 and the reference 0.0: ticks 0 .. 1, so the reference lies at the bottom, the value on top."""
    drawn = svg(line_chart("c", "t", [Series("s", (Point(0, 1.0),))], reference=0.0))
    assert [line.get("y1") for line in drawn.iter("line") if line.get("class") == "reference"] == ["186.0"]
    assert next(drawn.iter("circle")).get("cy") == "12.0"


def test_stacked_bars_stack() -> None:
    """Round 1 takes 2 + 6 = 8 s: the first part fills y 186..142.5, the second 142.5..12."""
    drawn = svg(stacked_bars("c", "Time", ["a", "b"], [(1, [2.0, 6.0])], "s"))
    bars = [(bar.get("y"), bar.get("height"), bar.find("title").text) for bar in drawn.iter("rect")]  # type: ignore[union-attr]
    assert bars == [("142.5", "43.5", "round 1 · a: 2.0 s"), ("12.0", "130.5", "round 1 · b: 6.0 s")]


def test_charts_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="no points"):
        line_chart("c", "t", [Series("s", (None,))])
    with pytest.raises(ValueError, match="no rows"):
        stacked_bars("c", "t", ["a"], [], "s")


@pytest.mark.parametrize(
    ("low", "high", "share"),
    [(0.38, 0.71, True), (0, 0, True), (1, 1, True), (0.99, 1, True), (0, 0, False), (-3, 2, False), (5, 5, False),
     (1e90, 2e90, False), (-9e99, 9e99, False), (0, 1e-9, False), (0.5, 0.5 + 1e-13, False), (-7.0, 9.0, True)],
)  # fmt: skip
def test_ticks_enclose_the_data_and_are_few_and_distinct(low: float, high: float, share: bool) -> None:
    found = ticks(low, high, share=share)
    span = found[-1] - found[0]
    assert found[0] <= low + 1e-9 * span and found[-1] >= high - 1e-9 * span
    assert 3 <= len(found) <= 8
    labels = [format_tick(value, found, "percent" if share else "number") for value in found]
    assert len(set(labels)) == len(labels)
    if share and high <= 1:
        assert found[0] >= 0 and found[-1] <= 1


def test_round_ticks_are_at_most_eleven_whole_rounds() -> None:
    assert round_ticks([0, 1, 2, 3]) == [0, 1, 2, 3]
    assert round_ticks(range(12)) == [0, 2, 4, 6, 8, 10]
    assert round_ticks(range(200)) == list(range(0, 200, 20))
    assert round_ticks([7]) == [7]
    assert max(len(round_ticks(range(start, start + n))) for n in range(1, 300) for start in (0, 3)) <= 11
