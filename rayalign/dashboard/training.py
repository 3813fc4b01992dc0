"""What the learner says of each round, for the page: curves of its metrics, and what CUT flagged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeGuard

from markupsafe import Markup

from rayalign.dashboard.charts import Point, Series, line_chart
from rayalign.dashboard.readings import Report, Rounds, items, number
from rayalign.display import format_value

TRAINING_CHARTS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("Training loss", ("loss",), "mean over the round's steps"),
    (
        "Log-ratio to the reference",
        ("logratio/best", "logratio/worst", "logratio/chosen", "logratio/rejected"),
        "nats per answer, mean over the round's steps",
    ),
    ("Implicit reward margin", ("implicit_reward/margin",), "best minus worst, beta times the log-ratios"),
    ("Implicit reward accuracy", ("implicit_reward/accuracy",), "how often the better answer has the larger log-ratio"),
    (
        "Reference log-probabilities from the generator",
        ("reference_gap",),
        "mean difference to the learner's own, nats per token",
    ),
    ("Alpha", ("alpha",), "set by the rewards: the mean standard deviation of those of a prompt"),
    ("Flagged tokens", ("cut/flagged_share",), "share of the tokens of flawed answers"),
)
FLAGGED_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Chart:
    title: str
    svg: Markup
    legend: list[str] = field(default_factory=list)
    latest: str = ""
    interval: str = ""
    note: str = ""


def training_charts(rounds: Rounds) -> list[Chart]:
    """One chart for each group of training metrics that any round has."""
    trained = [(index, training) for index, one in rounds if isinstance(training := one.get("training"), dict)]
    charts = []
    for title, names, note in TRAINING_CHARTS:
        series = [one for name in names if (one := _series(name, trained)).present]
        if series:
            svg = line_chart(f"chart-training-{len(charts)}", title, series)
            legend = [one.label for one in series] if len(series) > 1 else []
            charts.append(Chart(title, svg, legend, format_value(series[0].present[-1].y), note=note))
    return charts


def _series(name: str, trained: Sequence[tuple[int, Report]]) -> Series:
    values = [(index, number(training.get(name))) for index, training in trained]
    points = tuple(None if value is None else Point(index, value) for index, value in values)
    return Series(name.rpartition("/")[2], points)


def flagged_answers(rounds: Rounds) -> list[dict[str, object]]:
    """CUT's flags of the latest round that has any: prompt, judgment, and (token, flagged) pairs."""
    for index, one in reversed(rounds):
        shown = [example for example in items(one.get("flagged")) if _is_example(example)]
        if shown:
            return [{"round": index, **example} for example in shown[:FLAGGED_SHOWN]]
    return []


def _is_example(example: object) -> TypeGuard[dict[str, object]]:
    if not isinstance(example, dict) or not isinstance(example.get("tokens"), list):
        return False
    return all(isinstance(token, list) and len(token) == 2 for token in example["tokens"])
