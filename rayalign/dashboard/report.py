"""The run's report: one self-contained HTML page that opens from a file, without network, and readable without scripts.

Everything in it may come from a model or a user. Jinja escapes all text, a content security policy forbids whatever
would get past that, and what cannot stand in HTML (NUL, lone surrogates, control codes) is made visible first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rayalign.dashboard.charts import Point, Series, line_chart, stacked_bars
from rayalign.dashboard.headline import headline
from rayalign.dashboard.readings import (
    Reading,
    Report,
    Rounds,
    clean_report,
    clean_text,
    items,
    number,
    reading,
    section,
)
from rayalign.dashboard.rendering import render_page
from rayalign.dashboard.replicas import replica_tables
from rayalign.dashboard.scores import score_alarms, score_charts, score_tables
from rayalign.dashboard.tables import Cell, Rows, Table
from rayalign.dashboard.training import Chart, flagged_answers, training_charts
from rayalign.display import MISSING, display, display_order, format_interval, format_value

LONGEST_TEXT = 4000
"""Characters of one prompt or response that the page shows."""
ROUNDS_WITH_ANSWERS = 12
MOST_SERIES = 6


@dataclass(frozen=True, slots=True)
class ReportData:
    """What one run folder says of its run."""

    name: str
    status: str
    """`running`, `done`, `stopped`, `failed`, or any other word."""
    config: Report
    """The resolved config, secrets redacted."""
    info: Report
    """run.json: versions, seeds, hosts, hashes."""
    rounds: Sequence[Report]
    """The contents of `rounds/NNNN/report.json`: `EvalReport.to_dict()` and optionally stages, training, groups,
    sync, scores, trust, answers."""
    events: Sequence[Report] = ()
    """The events of `metrics.jsonl`."""
    browser: Report | None = None
    """What the browser of answers is fed with (`mode`: `file` or `serve`); None leaves it out."""


CHARTS: tuple[tuple[str, tuple[str, ...], float | None, str], ...] = (
    ("Pass rate", ("pass_rate",), None, "answers that the rule scores 1"),
    ("Mean reward", ("mean_reward",), None, "the combined training reward"),
    ("Win rate", ("win_rate/round_0", "win_rate/previous", "win_rate/target"), 0.5, "same prompts, ties count half"),
    ("KL to the base model", ("kl_base",), None, "nats per answer"),
    ("Answer length", ("length_tokens",), None, "tokens"),
    ("Truncated answers", ("truncation_rate",), None, "stopped by the token limit"),
    ("Distinct bigrams", ("distinct_2",), None, "diversity over all answers"),
)
SECTIONS = {
    "training": "Training",
    "groups": "Training groups",
    "scores": "Training scores",
    "sync": "Adapter sync",
    "turns": "Turns on shared devices",
}


def render_report(data: ReportData) -> str:
    """The page as text that UTF-8 can encode; the same data give the same page."""
    rounds = _in_order([clean_report(one) for one in data.rounds])
    # A round without metrics was not evaluated (evaluation.every): no row, and no gap in a curve.
    readings = [(index, metrics) for index, one in rounds if (metrics := _readings(one))]
    config, info = clean_report(data.config), clean_report(data.info)
    return render_page(
        data.browser,
        name=clean_text(data.name),
        status=clean_text(data.status),
        subtitle=_subtitle(config),
        headline=headline(readings, [one for _, one in rounds]),
        charts=[
            *_metric_charts(readings),
            *score_charts(rounds),
            *training_charts(rounds),
            *_stage_chart(rounds),
        ],
        alarms=score_alarms(rounds),
        scores=score_tables(rounds),
        metrics=_metric_table(readings),
        tables=[
            *[table for key, title in SECTIONS.items() if (table := _flat_table(title, key, rounds))],
            *replica_tables([clean_report(one) for one in data.events]),
        ],
        stages=_stage_table(rounds),
        answers=_answers(rounds),
        flagged=flagged_answers(rounds),
        most_answers=ROUNDS_WITH_ANSWERS,
        config=json.dumps(config, indent=2, ensure_ascii=False),
        environment=[(key, _text(value)) for key, value in _flatten(info).items()],
    )


def _in_order(rounds: list[Report]) -> Rounds:
    """The reports by round; a report that does not say its round has its place in the list."""
    numbered = [(number(one.get("round")), place, one) for place, one in enumerate(rounds)]
    ordered = [(place if index is None else int(index), one) for index, place, one in numbered]
    return sorted(ordered, key=lambda pair: pair[0])


def _readings(one: Report) -> dict[str, Reading]:
    found = {name: reading(metric) for name, metric in section(one.get("metrics")).items()}
    return {name: metric for name, metric in found.items() if metric is not None}


def _subtitle(config: Report) -> list[tuple[str, str]]:
    """Model, objectives, scorers and seed, as far as the config has them."""

    def types(value: object) -> str:
        entries = value if isinstance(value, list) else [value]
        return " + ".join(str(entry["type"]) for entry in entries if isinstance(entry, dict) and "type" in entry)

    facts = {
        "model": section(config.get("model")).get("base"),
        "objective": types(config.get("objective")),
        "scored by": types(config.get("scoring")),
        "seed": section(config.get("run")).get("seed"),
    }
    return [(key, _text(value)) for key, value in facts.items() if value not in (None, "")]


def _metric_charts(readings: list[tuple[int, dict[str, Reading]]]) -> list[Chart]:
    scorers = sorted({name for _, metrics in readings for name in metrics if name.startswith("mean_reward/")})
    wanted = list(CHARTS)
    if len(scorers) > 1:
        wanted.insert(
            2,
            (
                "Reward by scorer",
                tuple(scorers[:MOST_SERIES]),
                None,
                f"scorers may differ in scale; at most {MOST_SERIES} are drawn",
            ),
        )
    charts = []
    for title, names, reference, note in wanted:
        series = [(name, _series(name, readings)) for name in names]
        series = [(name, one) for name, one in series if one.present]
        if not series:
            continue
        style = display(series[0][0]).style
        svg = line_chart(f"chart-{len(charts)}", title, [one for _, one in series], style, reference)
        legend = [one.label for _, one in series] if len(names) > 1 else []
        latest = series[0][1].present[-1]
        interval = format_interval(*latest.interval, style) if latest.interval else ""
        charts.append(Chart(title, svg, legend, format_value(latest.y, style), interval, note))
    return charts


def _series(name: str, readings: list[tuple[int, dict[str, Reading]]]) -> Series:
    points = [
        Point(index, metrics[name].value, metrics[name].ci95) if name in metrics else None
        for index, metrics in readings
    ]
    return Series(display(name).label, tuple(points))


def _stages(rounds: Rounds) -> tuple[list[str], list[tuple[int, dict[str, Report]]]]:
    """The stage names in order of appearance, and the rounds that have any."""
    found = []
    for index, one in rounds:
        stages = {name: stage for name, stage in section(one.get("stages")).items() if isinstance(stage, dict)}
        if stages:
            found.append((index, stages))
    return list(dict.fromkeys(name for _, stages in found for name in stages)), found


def _stage_chart(rounds: Rounds) -> list[Chart]:
    names, found = _stages(rounds)
    if not found:
        return []
    rows = [(index, [_seconds(stages.get(name)) for name in names]) for index, stages in found]
    svg = stacked_bars("chart-stages", "Time per round", names, rows, "s")
    return [Chart("Time per round", svg, names, f"{sum(rows[-1][1]):.1f} s", note="seconds by stage")]


def _stage_table(rounds: Rounds) -> Table | None:
    names, found = _stages(rounds)

    def cell(stage: Report | None) -> Cell:
        seconds = _seconds(stage)
        if stage is None:
            return MISSING, ""
        counts = [(number(stage.get(unit)), unit) for unit in ("items", "tokens")]
        rates = [f"{format_value(count / seconds)} {unit}/s" for count, unit in counts if count and seconds]
        return f"{seconds:.1f} s", ", ".join(rates)

    rows: Rows = [(index, [cell(stages.get(name)) for name in names]) for index, stages in found]
    return Table("Stages", names, rows) if rows else None


def _seconds(stage: Report | None) -> float:
    return max(0.0, number((stage or {}).get("seconds")) or 0.0)


def _metric_table(readings: list[tuple[int, dict[str, Reading]]]) -> Table | None:
    names = display_order({name for _, metrics in readings for name in metrics})
    if not names:
        return None

    def cell(name: str, metrics: Mapping[str, Reading]) -> Cell:
        metric, style = metrics.get(name), display(name).style
        if metric is None:
            return MISSING, ""
        return format_value(metric.value, style), format_interval(*metric.ci95, style) if metric.ci95 else ""

    rows: Rows = [(index, [cell(name, metrics) for name in names]) for index, metrics in readings]
    return Table("Held-out metrics", [display(name).label for name in names], rows)


def _flat_table(title: str, key: str, rounds: Rounds) -> Table | None:
    """One section of the reports, nested keys flattened, a column per key that any round has."""
    found = [(index, flat) for index, one in rounds if (flat := _flatten(section(one.get(key))))]
    columns = list(dict.fromkeys(name for _, flat in found for name in flat))
    rows: Rows = [(index, [(_text(flat.get(name)), "") for name in columns]) for index, flat in found]
    return Table(title, columns, rows) if rows else None


@dataclass(frozen=True, slots=True)
class Answer:
    """An example as the page shows it."""

    prompt: str
    response: str
    reward: str


@dataclass(frozen=True, slots=True)
class RoundExamples:
    """The examples of one round."""

    round: int
    answers: list[Answer]


def _answers(rounds: Rounds) -> list[RoundExamples]:
    """The examples of the first and the latest rounds, newest first."""
    found = [
        (index, [one for one in items(report.get("answers")) if isinstance(one, dict)]) for index, report in rounds
    ]
    found = [(index, some) for index, some in found if some]
    shown = found if len(found) <= ROUNDS_WITH_ANSWERS else [found[0], *found[1 - ROUNDS_WITH_ANSWERS :]]
    return [RoundExamples(index, [_answer(answer) for answer in some]) for index, some in reversed(shown)]


def _answer(answer: Report) -> Answer:
    prompt = answer.get("prompt")
    if isinstance(prompt, list) and all(isinstance(turn, dict) for turn in prompt):
        prompt = "\n\n".join(f"{turn.get('role', '')}: {turn.get('content', '')}" for turn in prompt)
    response = _shorten(_text(answer.get("response")))
    return Answer(_shorten(_text(prompt)), response, format_value(number(answer.get("reward"))))


def _shorten(text: str) -> str:
    return (
        text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]} … ({len(text) - LONGEST_TEXT} more characters)"
    )


def _flatten(report: Report, prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in report.items():
        if isinstance(value, dict):
            flat.update(_flatten(value, f"{prefix}{key} · "))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _text(value: object) -> str:
    if value is None:
        return MISSING
    if isinstance(value, float):
        return format_value(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
