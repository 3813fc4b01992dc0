"""Tables with a row per round: metrics, stages, benchmarks, and whatever the reports' sections hold."""

from __future__ import annotations

import json
from collections.abc import Mapping

from rayalign.dashboard.curves import Readings, benchmark_readings, benchmark_style
from rayalign.dashboard.readings import Reading, Report, Rounds, number, section
from rayalign.dashboard.tables import Cell, Rows, Table
from rayalign.display import MISSING, display, display_order, format_interval, format_value

SECTIONS = {
    "training": "Training",
    "groups": "Training groups",
    "scores": "Training scores",
    "sync": "Adapter sync",
    "turns": "Turns on shared devices",
}


def metric_table(readings: Readings) -> Table | None:
    """Every held-out metric with its interval."""
    names = display_order({name for _, metrics in readings for name in metrics})
    rows: Rows = [
        (index, [_reading(metrics.get(name), display(name).style) for name in names]) for index, metrics in readings
    ]
    return Table("Held-out metrics", [display(name).label for name in names], rows) if names else None


def benchmark_tables(rounds: Rounds) -> list[Table]:
    """A table per benchmark: every metric of every round that it was run on, then its facts."""
    tables = []
    for name in dict.fromkeys(name for _, one in rounds for name in section(one.get("benchmarks"))):
        readings = benchmark_readings(name, rounds)
        facts = dict(_facts(name, rounds))
        metrics = list(dict.fromkeys(key for _, values in readings for key in values))
        keys = list(dict.fromkeys(key for one in facts.values() for key in one))
        measured: Mapping[int, Mapping[str, Reading]] = dict(readings)
        styles = {key: benchmark_style(key, readings) for key in metrics}
        rows: Rows = [
            (
                index,
                [_reading(measured.get(index, {}).get(key), styles[key]) for key in metrics]
                + [(text(facts.get(index, {}).get(key)), "") for key in keys],
            )
            for index in sorted({*measured, *facts})
        ]
        if rows:
            tables.append(Table(f"Benchmark {name}", [*metrics, *keys], rows))
    return tables


def _facts(name: str, rounds: Rounds) -> list[tuple[int, dict[str, object]]]:
    found = [(index, section(section(section(one.get("benchmarks")).get(name)).get("facts"))) for index, one in rounds]
    return [(index, flatten(facts)) for index, facts in found if facts]


def section_tables(rounds: Rounds) -> list[Table]:
    """The sections of the reports that are plain values, each with a column per key that any round has."""
    return [table for key, title in SECTIONS.items() if (table := _flat_table(title, key, rounds))]


def _flat_table(title: str, key: str, rounds: Rounds) -> Table | None:
    found = [(index, flat) for index, one in rounds if (flat := flatten(section(one.get(key))))]
    columns = list(dict.fromkeys(name for _, flat in found for name in flat))
    rows: Rows = [(index, [(text(flat.get(name)), "") for name in columns]) for index, flat in found]
    return Table(title, columns, rows) if rows else None


def stages(rounds: Rounds) -> tuple[list[str], list[tuple[int, dict[str, Report]]]]:
    """The stage names in order of appearance, and the rounds that have any."""
    found = []
    for index, one in rounds:
        named = {name: stage for name, stage in section(one.get("stages")).items() if isinstance(stage, dict)}
        if named:
            found.append((index, named))
    return list(dict.fromkeys(name for _, named in found for name in named)), found


def seconds(stage: Report | None) -> float:
    """How long a stage took; 0 where that is not known."""
    return max(0.0, number((stage or {}).get("seconds")) or 0.0)


def stage_table(rounds: Rounds) -> Table | None:
    """Seconds of each stage, and items and tokens per second."""
    names, found = stages(rounds)
    rows: Rows = [(index, [_stage(named.get(name)) for name in names]) for index, named in found]
    return Table("Stages", names, rows) if rows else None


def _stage(stage: Report | None) -> Cell:
    if stage is None:
        return MISSING, ""
    took = seconds(stage)
    counts = [(number(stage.get(unit)), unit) for unit in ("items", "tokens")]
    rates = [f"{format_value(count / took)} {unit}/s" for count, unit in counts if count and took]
    return f"{took:.1f} s", ", ".join(rates)


def _reading(metric: Reading | None, style: str) -> Cell:
    shown = "percent" if style == "percent" else "number"
    if metric is None:
        return MISSING, ""
    return format_value(metric.value, shown), format_interval(*metric.ci95, shown) if metric.ci95 else ""


def flatten(report: Report, prefix: str = "") -> dict[str, object]:
    """Nested objects as one, the keys joined by ` · `."""
    flat: dict[str, object] = {}
    for key, value in report.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key} · "))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def text(value: object) -> str:
    """A JSON value for people."""
    if value is None:
        return MISSING
    if isinstance(value, float):
        return format_value(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
