"""What the learner says of each round, for the page: curves of its metrics, and what CUT flagged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeGuard

from rayalign.dashboard.charts import Chart, Point, Series, line_chart, stacked_bars
from rayalign.dashboard.readings import Report, Rounds, items, number, section

TRAINING_CHARTS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("Training loss", ("loss",), "mean over the round's steps"),
    (
        "Log-ratio to the reference",
        ("logratio/best", "logratio/worst", "logratio/chosen", "logratio/rejected"),
        "nats per answer, mean over the round's steps",
    ),
    ("Implicit rewards", ("implicit_reward/best", "implicit_reward/worst"), "beta times the log-ratios"),
    ("Implicit reward margin", ("implicit_reward/margin",), "best minus worst"),
    ("Implicit reward accuracy", ("implicit_reward/accuracy",), "how often the better answer has the larger log-ratio"),
    (
        "Log-probabilities of generator and learner",
        ("reference_gap",),
        "mean difference on some groups before the update, nats per token",
    ),
    ("Alpha", ("alpha",), "set by the rewards: the mean standard deviation of those of a prompt"),
    ("Flagged tokens", ("cut/flagged_share",), "share of the tokens of flawed answers"),
)
FLAGGED_SHOWN = 8


def training_charts(rounds: Rounds) -> list[Chart]:
    """One chart for each group of training metrics that any round has, and one of what became of the prompts."""
    trained = [(index, training) for index, one in rounds if isinstance(training := one.get("training"), dict)]
    charts = [
        line_chart(title, [_series(name, trained) for name in names], note=note)
        for title, names, note in TRAINING_CHARTS
    ]
    return [chart for chart in (*charts, _groups(rounds)) if chart]


def _series(name: str, trained: Sequence[tuple[int, Report]]) -> Series:
    values = [(index, number(training.get(name))) for index, training in trained]
    points = tuple(None if value is None else Point(index, value) for index, value in values)
    return Series(name.rpartition("/")[2], points)


def _groups(rounds: Rounds) -> Chart | None:
    """Prompts that became training groups, and the reasons of those that did not."""
    found = [(index, groups) for index, one in rounds if (groups := section(one.get("groups")))]
    reasons = list(dict.fromkeys(name for _, groups in found for name in section(groups.get("dropped"))))
    rows = [
        (index, [_count(groups.get("kept")), *(_count(section(groups.get("dropped")).get(name)) for name in reasons)])
        for index, groups in found
    ]
    names = ["trained on", *(f"dropped: {name.replace('_', ' ')}" for name in reasons)]
    return stacked_bars("What became of the prompts", names, rows, note="prompts of each round") if rows else None


def _count(value: object) -> float:
    return max(0.0, number(value) or 0.0)


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
