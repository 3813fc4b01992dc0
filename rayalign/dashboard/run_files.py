"""What a run folder has of its rounds, read so that one damaged file leaves the rest of the page as it is."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from rayalign.dashboard.held_out import HeldOut, read_held_out
from rayalign.dashboard.readings import Report, section
from rayalign.errors import RunFolderError
from rayalign.store.damage import damaged_log, lost_rounds
from rayalign.store.event_log import read_events
from rayalign.store.round_dir import RoundDir
from rayalign.store.run_dir import RunDir

SHOWN = ("start", "stage", "replica", "pool")
"""The events that the page needs."""


@dataclass
class RunFiles:
    """What could be read, and what could not."""

    reports: list[Report] = field(default_factory=list)
    held_out: list[HeldOut] = field(default_factory=list)
    events: list[Report] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def read_run(run_dir: RunDir) -> RunFiles:
    """Reports and held-out answers of the finished rounds, and the log's events."""
    found = RunFiles()
    found.problems += [f"round {index} {lost}" for index, lost in lost_rounds(run_dir).items()]
    events = _events(run_dir, found)
    for round_dir in run_dir.rounds():
        if (report := read_report(round_dir, found.problems)) is not None:
            found.reports.append({**report, "round": round_dir.index})
        answers, problems = read_held_out(round_dir)
        found.held_out += [answers] if answers else []
        found.problems += problems
    _add_benchmarks(run_dir, found)
    found.events = [one for one in events if one.get("event") in SHOWN]
    return found


def read_report(round_dir: RoundDir, problems: list[str]) -> Report | None:
    """A round's `report.json`; None where it is not there, or not what was committed, which is then a problem."""
    try:
        round_dir.committed("report")
        found = round_dir.report()
        if found is None or isinstance(found, dict):
            return found
        problems.append(f"round {round_dir.index}: report.json is no report")
    except RunFolderError:
        problems.append(f"round {round_dir.index}: report.json is missing or not what was committed")
    except (ValueError, OSError, KeyError, TypeError) as error:
        problems.append(f"round {round_dir.index}: report.json cannot be read ({type(error).__name__})")
    return None


def _events(run_dir: RunDir, found: RunFiles) -> list[Report]:
    try:
        events: list[Report] = list(read_events(run_dir.root / "metrics.jsonl"))
        found.problems += [] if events else damaged_log(run_dir)
        return events
    except (OSError, RunFolderError) as error:
        found.problems.append(f"metrics.jsonl cannot be read ({type(error).__name__})")
        return []


def _add_benchmarks(run_dir: RunDir, found: RunFiles) -> None:
    """Results of benchmarks that were run by hand, `benchmarks/NAME/round-0003/result.json`, into the reports of their
    rounds."""
    for index, report in enumerate(found.reports):
        results = dict(section(report.get("benchmarks")))
        for name in (run_dir.root / "benchmarks").names():
            path = run_dir.root / "benchmarks" / name / f"round-{report['round']:04d}" / "result.json"
            try:
                text = path.find_text()
                results |= {} if text is None else {f"{name}, by hand": json.loads(text)}
            except (ValueError, OSError, RunFolderError):
                found.problems.append(f"round {report['round']}: {name}/result.json cannot be read")
        found.reports[index] = {**report, "benchmarks": results} if results else report
