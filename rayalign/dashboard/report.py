"""The run's report: one self-contained HTML page that opens from a file, without network, and readable without scripts.

Everything in it may come from a model or a user. Jinja escapes all text, a content security policy forbids whatever
would get past that, and what cannot stand in HTML (NUL, lone surrogates, control codes) is made visible first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rayalign.dashboard.alarms import page_alarms
from rayalign.dashboard.charts import Chart
from rayalign.dashboard.curves import Readings, behaviour_charts, benchmark_charts, quality_charts
from rayalign.dashboard.distributions import length_against_reward, reward_spread, win_matrix, win_rates
from rayalign.dashboard.headline import headline, stage_time, summary
from rayalign.dashboard.held_out import HeldOut
from rayalign.dashboard.readings import Reading, Report, Rounds, clean_report, clean_text, number, reading, section
from rayalign.dashboard.rendering import render_page
from rayalign.dashboard.replicas import replica_tables
from rayalign.dashboard.round_tables import (
    benchmark_tables,
    flatten,
    metric_table,
    section_tables,
    stage_table,
    text,
)
from rayalign.dashboard.samples import ROUNDS_WITH_ANSWERS, sample_answers
from rayalign.dashboard.scores import score_charts, score_tables
from rayalign.dashboard.training import flagged_answers, training_charts
from rayalign.dashboard.verdicts import verdict
from rayalign.dashboard.work import pool_charts, sync_charts, time_charts

LONGEST_SETTING = 100_000
"""Characters of one value of the config that the page shows."""


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
    held_out: Sequence[HeldOut] = ()
    """The stored held-out answers of the rounds, in their order, as numbers."""
    problems: Sequence[str] = ()
    """What of the folder is damaged or missing, in words."""
    browser: Callable[[], Report] | None = None
    """Gives what the browser of answers is fed with (`mode`: `file` or `serve`); None leaves it out."""


@dataclass(frozen=True, slots=True)
class Group:
    """Charts that answer one question."""

    id: str
    title: str
    note: str
    charts: dict[str, Chart]
    """By the id of their place."""


def render_report(data: ReportData) -> str:
    """The page as text that UTF-8 can encode; the same data give the same page."""
    rounds = _in_order([clean_report(one) for one in data.rounds])
    # A round without metrics was not evaluated (evaluation.every): no row, and no gap in a curve.
    readings = [(index, metrics) for index, one in rounds if (metrics := _readings(one))]
    config, info = clean_report(data.config, LONGEST_SETTING), clean_report(data.info)
    events = [clean_report(one) for one in data.events]
    found = verdict(rounds, readings, data.held_out, config)
    groups = _groups(rounds, readings, data.held_out, events, config)
    return render_page(
        data.browser,
        {name: chart for group in groups for name, chart in group.charts.items()},
        name=clean_text(data.name),
        status=clean_text(data.status),
        subtitle=_subtitle(config, stage_time([one for _, one in rounds])),
        summary=summary(found),
        tone=found.word if found else "unknown",
        headline=headline(found, readings, [one for _, one in rounds]),
        alarms=page_alarms(rounds, readings, found),
        problems=[clean_text(one) for one in data.problems],
        groups=groups,
        scores=score_tables(rounds),
        metrics=metric_table(readings),
        tables=[*benchmark_tables(rounds), *section_tables(rounds), *replica_tables(events)],
        stages=stage_table(rounds),
        answers=sample_answers(rounds),
        flagged=flagged_answers(rounds),
        most_answers=ROUNDS_WITH_ANSWERS,
        config=json.dumps(config, indent=2, ensure_ascii=False),
        environment=[(key, text(value)) for key, value in flatten(info).items()],
    )


def _groups(
    rounds: Rounds, readings: Readings, held_out: Sequence[HeldOut], events: Sequence[Report], config: Report
) -> list[Group]:
    rewards = reward_spread(held_out), win_matrix(win_rates(held_out)), length_against_reward(held_out)
    found: list[tuple[str, str, str, Sequence[Chart | None]]] = [
        ("quality", "Is it getting better?", "on held-out prompts", quality_charts(readings)),
        ("rewards", "How are rewards spread?", "single held-out answers", rewards),
        ("benchmarks", "Benchmarks", "in the rounds that they were run on", benchmark_charts(rounds)),
        ("behaviour", "What else changes?", "on held-out prompts", behaviour_charts(readings)),
        ("training", "What does it learn from?", "the update of each round", training_charts(rounds)),
        ("scorers", "Can the scores be trusted?", "sampled and held-out answers", score_charts(rounds)),
        ("sync", "Is the right model served?", "after each update", sync_charts(rounds, config)),
        ("work", "Where does the time go?", "all attempts", [*time_charts(rounds, events), *pool_charts(events)]),
    ]
    return [
        Group(name, title, note, {f"chart-{name}-{place}": one for place, one in enumerate(there)})
        for name, title, note, charts in found
        if (there := [one for one in charts if one])
    ]


def _in_order(rounds: list[Report]) -> Rounds:
    """The reports by round; a report that does not say its round has its place in the list."""
    numbered = [(number(one.get("round")), place, one) for place, one in enumerate(rounds)]
    ordered = [(place if index is None else int(index), one) for index, place, one in numbered]
    return sorted(ordered, key=lambda pair: pair[0])


def _readings(one: Report) -> dict[str, Reading]:
    found = {name: reading(metric) for name, metric in section(one.get("metrics")).items()}
    return {name: metric for name, metric in found.items() if metric is not None}


def _subtitle(config: Report, took: str) -> list[tuple[str, str]]:
    """Model, objectives, scorers and seed, as far as the config has them, and how long it took."""

    def types(value: object) -> str:
        entries = value if isinstance(value, list) else [value]
        return " + ".join(str(entry["type"]) for entry in entries if isinstance(entry, dict) and "type" in entry)

    facts = {
        "model": section(config.get("model")).get("base"),
        "objective": types(config.get("objective")),
        "scored by": types(config.get("scoring")),
        "seed": section(config.get("run")).get("seed"),
        "stage time": took,
    }
    return [(key, text(value)) for key, value in facts.items() if value not in (None, "")]
