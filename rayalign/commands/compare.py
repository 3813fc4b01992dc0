"""`rayalign compare`: what runs have in common and in what they differ, from their files.

Settings that differ, every metric over the rounds, and on the prompts that two runs share a paired comparison of their
last rounds: the same prompts, so what is easy or hard about them cancels out.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TypedDict

from rayalign.dashboard.answers import AnswerStore
from rayalign.dashboard.charts import Chart, Point, Series, line_chart
from rayalign.dashboard.readings import Reading, clean, clean_report, clean_text, reading, section
from rayalign.dashboard.run_files import read_report
from rayalign.dashboard.tables import Cell, Rows, Table
from rayalign.display import MISSING, display, display_order, format_interval, format_value, headline_metric
from rayalign.errors import ConfigError
from rayalign.evaluation import paired
from rayalign.records import JsonObject
from rayalign.store.changes import flatten
from rayalign.store.files import json_value
from rayalign.store.saved_run import SavedRun
from rayalign.tracking.console import terminal_text

SAME_SETTING = ("run.name", "run.dir")
"""Settings that differ between any two runs."""
LONGEST_VALUE = 120
ENOUGH_PROMPTS = 30
"""On fewer prompts that two runs share there is no verdict."""
VERDICTS = {
    "better": "significantly better",
    "worse": "significantly worse",
    "none": "no clear difference",
    "few": f"none on fewer than {ENOUGH_PROMPTS} prompts",
}


class Comparison(TypedDict):
    """Runs beside each other, as JSON."""

    runs: list[JsonObject]
    """Of each: name, rounds (finished, without round 0), headline."""
    config: dict[str, dict[str, object]]
    """Settings that differ, with each run's value."""
    curves: dict[str, dict[str, list[list[float | None]]]]
    """metric -> run -> [round, value, low, high] of each evaluated round."""
    paired: list[JsonObject]
    notes: list[str]


def compare_command(places: Sequence[str], *, as_json: bool) -> str:
    """What the command prints.

    Raises:
        RunFolderError: a place is no run, or cannot be read.
        ConfigError: fewer than two runs.
    """
    runs = [SavedRun.at(place) for place in places]
    different = len({str(run.run_dir.root) for run in runs})
    if different < 2:
        found = f"{len(places)} runs" if len(places) < 2 else f"one folder, {len(places)} times"
        raise ConfigError(found, "a comparison takes two runs or more", "give the folders of different runs")
    names = [run.name for run in runs]
    shown = names if len(set(names)) == len(names) else [str(run.run_dir.root) for run in runs]
    found = compare({name: AnswerStore(run) for name, run in zip(shown, runs, strict=True)})
    return json.dumps(json_value(found), indent=1) if as_json else terminal_text("\n".join(_lines(found)))


def compare(stores: Mapping[str, AnswerStore]) -> Comparison:
    """Runs beside each other, by the names that they are shown under."""
    damage: dict[str, list[str]] = {name: [] for name in stores}
    readings = {name: _readings(store.run, damage[name]) for name, store in stores.items()}
    found = [pair for a, b in combinations(stores, 2) for pair in _paired((a, b), stores)]
    # What is damaged is known once the answers were read.
    notes = [f"{name}: {problem}" for name, store in stores.items() for problem in [*damage[name], *store.problems]]
    if note := _scorers_differ(stores):
        notes.insert(0, note)
    return {
        "runs": [_head(name, readings[name]) for name in stores],
        "config": _settings({name: flatten(store.run.config) for name, store in stores.items()}),
        "curves": _curves(readings),
        "paired": found,
        "notes": [clean_text(note) for note in notes],
    }


Metrics = dict[int, dict[str, Reading]]
"""Of each evaluated round, its metrics."""


def _readings(run: SavedRun, problems: list[str]) -> Metrics:
    found: Metrics = {}
    for one in run.run_dir.rounds():
        report = clean_report(read_report(one, problems) or {})
        metrics = {name: read for name, value in section(report.get("metrics")).items() if (read := reading(value))}
        if metrics:
            found[one.index] = metrics
    return found


def _head(name: str, metrics: Metrics) -> JsonObject:
    main = headline_metric([{key: one.value for key, one in found.items()} for found in metrics.values()])
    values = [found[main].value for found in metrics.values() if main in found] if main else []
    shown = display(main or "")
    headline = f"{shown.label} {format_value(values[-1], shown.style)}" if values else ""
    return {"name": clean_text(name), "rounds": max(metrics, default=0), "headline": headline}


def _settings(configs: Mapping[str, JsonObject]) -> dict[str, dict[str, object]]:
    keys = sorted({key for config in configs.values() for key in config})
    values = {key: {name: json_value(config.get(key)) for name, config in configs.items()} for key in keys}
    different = {key: found for key, found in values.items() if len({repr(value) for value in found.values()}) > 1}
    return {key: section(clean(found)) for key, found in different.items() if key not in SAME_SETTING}


def _curves(readings: Mapping[str, Metrics]) -> dict[str, dict[str, list[list[float | None]]]]:
    names = {name for metrics in readings.values() for found in metrics.values() for name in found}
    curves: dict[str, dict[str, list[list[float | None]]]] = {}
    for name in display_order(names):
        for run, metrics in readings.items():
            points = [[float(index), *_point(found[name])] for index, found in metrics.items() if name in found]
            if points:
                curves.setdefault(name, {})[run] = points
    return curves


def _point(one: Reading) -> list[float | None]:
    low, high = one.ci95 or (None, None)
    return [one.value, low, high]


def _scorers_differ(stores: Mapping[str, AnswerStore]) -> str | None:
    """Rewards of other scorers are other numbers."""
    scorings = {repr(store.run.config.get("scoring")) for store in stores.values()}
    if len(scorings) < 2:
        return None
    return (
        "The runs have different scoring settings: their rewards need not be on one scale, and neither are differences."
    )


# -- the prompts that two runs share


def _paired(names: tuple[str, str], stores: Mapping[str, AnswerStore]) -> list[JsonObject]:
    """The last evaluations of two runs, prompt by prompt; nothing where they share no prompt."""
    first, second = (stores[name] for name in names)
    rounds = [store.rounds().get("evaluation", []) for store in (first, second)]
    if not all(rounds):
        return []
    before, after = (
        store.mean_rewards("evaluation", indices[-1]) for store, indices in zip((first, second), rounds, strict=True)
    )
    found = paired.compare(after, before, seed=0)
    if found is None:
        return []
    differences = [after[one] - before[one] for one in before.keys() & after.keys()]
    enough = len(differences) >= ENOUGH_PROMPTS
    return [
        {
            "runs": [clean_text(name) for name in names],
            "rounds": [indices[-1] for indices in rounds],
            "n": len(differences),
            "difference": dataclasses.asdict(found.difference),
            "better": sum(one > 0 for one in differences),
            "worse": sum(one < 0 for one in differences),
            "p": found.p,
            "test": found.test,
            "verdict": paired.verdict(found.difference.value, found.p) if enough else "few",
        }
    ]


# -- for people


def comparison_charts(found: Comparison) -> dict[str, Chart]:
    """Every metric over the rounds, a curve for each run, by the id of its place."""
    charts: dict[str, Chart] = {}
    for name, by_run in found["curves"].items():
        points = {clean_text(run): tuple(_chart_point(one) for one in those) for run, those in by_run.items()}
        series = [Series(run["name"], points.get(run["name"], ())) for run in found["runs"]]
        if chart := line_chart(display(name).label, series, display(name).style, all_named=True):
            charts[f"chart-{len(charts)}"] = chart
    return charts


def _chart_point(point: Sequence[float | None]) -> Point | None:
    index, value, low, high = point
    if index is None or value is None:
        return None
    return Point(index, value, None if low is None or high is None else (low, high))


def comparison_tables(found: Comparison) -> list[Table]:
    """The comparison as tables."""
    names = [run["name"] for run in found["runs"]]
    tables = [_paired_table(found["paired"])] if found["paired"] else []
    if found["config"]:
        tables.append(_config_table(found["config"], names))
    return [*tables, *(_curve_table(name, by_run) for name, by_run in found["curves"].items())]


def _paired_table(found: Sequence[JsonObject]) -> Table:
    rows: Rows = []
    for one in found:
        a, b = (f"{name} (round {index})" for name, index in zip(one["runs"], one["rounds"], strict=True))
        difference = one["difference"]
        counts = [(str(one[key]), "") for key in ("n", "better", "worse")]
        said = VERDICTS[one["verdict"]], f"p {one['p']:.3g}, {one['test']} test"
        measured = _signed(difference["value"]), format_interval(*difference["ci95"])
        rows.append((f"{b} against {a}", [measured, *counts, said]))
    columns = ["mean difference of rewards", "prompts", "higher", "lower", "verdict"]
    return Table("On the held-out prompts that two runs share", columns, rows, "runs")


def _config_table(config: Mapping[str, Mapping[str, object]], names: list[str]) -> Table:
    def cell(value: object) -> Cell:
        text = MISSING if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        return (text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"), ""

    rows: Rows = [(key, [cell(value) for value in values.values()]) for key, values in config.items()]
    return Table("Settings that differ", names, rows, "setting")


def _curve_table(name: str, by_run: Mapping[str, Sequence[Sequence[float | None]]]) -> Table:
    shown = display(name)
    points = {run: {int(point[0] or 0): point[1:] for point in found} for run, found in by_run.items()}

    def cell(point: Sequence[float | None] | None) -> Cell:
        value, low, high = point or (None, None, None)
        interval = format_interval(low, high, shown.style) if low is not None and high is not None else ""
        return format_value(value, shown.style), interval

    rounds = sorted({index for found in points.values() for index in found})
    rows: Rows = [(index, [cell(found.get(index)) for found in points.values()]) for index in rounds]
    return Table(shown.label, [clean_text(run) for run in by_run], rows, "round")


def _signed(value: float) -> str:
    return f"+{format_value(value)}" if value > 0 else format_value(value)


def _lines(found: Comparison) -> list[str]:
    lines = [f"{run['name']}: rounds: {run['rounds']}, {run['headline'] or 'not evaluated'}" for run in found["runs"]]
    for table in comparison_tables(found):
        lines += ["", table.title]
        lines += _aligned([table.heading, *table.columns], table.rows)
    return [*lines, *([""] if found["notes"] else []), *found["notes"]]


def _aligned(head: list[str], rows: Rows) -> list[str]:
    """A table's columns under each other."""
    cells = [head, *([str(name), *(_plain(cell) for cell in some)] for name, some in rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(head))]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def _plain(cell: Cell) -> str:
    return f"{cell[0]} {cell[1]}".strip()
