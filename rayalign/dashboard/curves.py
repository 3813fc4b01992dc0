"""Curves of the held-out metrics and of the benchmarks over the rounds, in groups that answer one question each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rayalign.dashboard.charts import COLOURS, Chart, Point, Series, Style, line_chart
from rayalign.dashboard.readings import Reading, Rounds, reading, section
from rayalign.display import display, display_order

Readings = Sequence[tuple[int, Mapping[str, Reading]]]
"""The rounds that were evaluated, with their metrics by name."""
MOST_OTHERS = 6
MOST_BENCHMARKS = 12


@dataclass(frozen=True, slots=True)
class Curve:
    """One chart of held-out metrics. A name that ends in `/` stands for all that begin so."""

    title: str
    names: tuple[str, ...]
    note: str
    reference: float | None = None


QUALITY = (
    Curve("Pass rate", ("pass_rate", "pass_rate/greedy"), "answers that the rule scores 1"),
    Curve("Mean reward", ("mean_reward", "mean_reward/greedy"), "the combined training reward"),
    Curve("Win rate", ("win_rate/",), "same prompts, ties count half", 0.5),
    Curve("Win rate at equal length", ("equal_length_win_rate/",), "what is left when length is taken out", 0.5),
)
BEHAVIOUR = (
    Curve("KL to the base model", ("kl_base",), "nats per answer"),
    Curve("Answer length", ("length_tokens",), "tokens"),
    Curve("Truncated answers", ("truncation_rate",), "stopped by the token limit"),
    Curve("Distinct bigrams", ("distinct_2",), "diversity over all answers"),
    Curve("Duplicates", ("duplicate_rate",), "answers that an earlier one to the same prompt already gives"),
)
SCORERS = "mean_reward/"


def quality_charts(readings: Readings) -> list[Chart]:
    """Whether the answers get better: pass rate, reward, win rate, and the reward of each scorer."""
    names = [name for name in _names(readings) if name.startswith(SCORERS) and name != "mean_reward/greedy"]
    charts = [_chart(curve, readings) for curve in QUALITY]
    if len(names) > 1:
        note = f"scorers may differ in scale; at most {COLOURS} are drawn"
        charts.insert(2, _chart(Curve("Reward by scorer", tuple(names), note), readings))
    return [chart for chart in charts if chart]


def behaviour_charts(readings: Readings) -> list[Chart]:
    """What else changes: distance from the base, length, truncation, diversity, and metrics that no other chart has."""
    taken = [name for curve in (*QUALITY, *BEHAVIOUR) for name in curve.names]
    others = [name for name in _names(readings) if not any(_is(name, one) for one in (*taken, SCORERS))]
    curves = [*BEHAVIOUR, *(Curve(display(name).label, (name,), "") for name in others[:MOST_OTHERS])]
    return [chart for curve in curves if (chart := _chart(curve, readings))]


def benchmark_charts(rounds: Rounds) -> list[Chart]:
    """One chart per benchmark, a curve per metric."""
    names = list(dict.fromkeys(name for _, one in rounds for name in section(one.get("benchmarks"))))
    return [chart for name in names[:MOST_BENCHMARKS] if (chart := _benchmark(name, benchmark_readings(name, rounds)))]


def benchmark_readings(name: str, rounds: Rounds) -> list[tuple[int, dict[str, Reading]]]:
    """A benchmark's metrics, in the rounds that it was run on."""
    found = []
    for index, one in rounds:
        metrics = section(section(section(one.get("benchmarks")).get(name)).get("metrics"))
        if values := {key: value for key, metric in metrics.items() if (value := reading(metric)) is not None}:
            found.append((index, values))
    return found


def benchmark_style(name: str, readings: Readings) -> Style:
    """A metric that lies between 0 and 1 in every round is a share."""
    values = [metrics[name].value for _, metrics in readings if name in metrics]
    return "percent" if all(0 <= value <= 1 for value in values) else "number"


def _benchmark(title: str, readings: Readings) -> Chart | None:
    names = list(dict.fromkeys(name for _, metrics in readings for name in metrics))
    if not names:
        return None
    style = benchmark_style(names[0], readings)
    alike = [name for name in names if benchmark_style(name, readings) == style]
    series = [_series(name, readings, name) for name in alike[:COLOURS]]
    rest = len(names) - len(series)
    note = f"benchmark; {rest} more metrics in its table" if rest else "benchmark"
    return line_chart(title, series, style, note=note)


def _names(readings: Readings) -> list[str]:
    return display_order({name for _, metrics in readings for name in metrics})


def _is(name: str, wanted: str) -> bool:
    return name.startswith(wanted) if wanted.endswith("/") else name == wanted


def _chart(curve: Curve, readings: Readings) -> Chart | None:
    names = [name for wanted in curve.names for name in _names(readings) if _is(name, wanted)][:COLOURS]
    if not names:
        return None
    series = [_series(name, readings, display(name).label) for name in names]
    return line_chart(curve.title, series, display(names[0]).style, note=curve.note, reference=curve.reference)


def _series(name: str, readings: Readings, label: str) -> Series:
    points = (
        Point(index, metrics[name].value, metrics[name].ci95) if name in metrics else None
        for index, metrics in readings
    )
    return Series(label, tuple(points))
