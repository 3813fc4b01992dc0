"""The report's tables of replicas that came and went."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rayalign.dashboard.replicas import replica_tables
from rayalign.dashboard.report import ReportData, render_report
from rayalign.display import MISSING


def event(second: int, kind: str, **fields: Any) -> dict[str, Any]:
    return {"time": f"2026-01-01T00:00:{second:02}.000+00:00", "event": kind, **fields}


def replica(second: int, name: str, state: str) -> dict[str, Any]:
    return event(second, "replica", name=name, state=state)


ALONE = [event(0, "start", attempt=1), replica(4, "generator-0", "joined"), replica(5, "scorer-0", "joined")]
CHANGED = [
    *ALONE,
    replica(9, "generator-1", "joined"),
    replica(20, "generator-0", "lost"),
    replica(33, "generator-0", "joined"),
    event(40, "pool", name="generator", what="sample", replicas=2, utilisation=0.98),
    event(50, "pool", name="generator", what="sample", replicas=1, utilisation=1.0),
    replica(55, "generator-1", "sent away"),
]


def test_pools_that_stay_as_they_are_have_no_table() -> None:
    assert replica_tables(ALONE) == [] and replica_tables([]) == []


def test_what_came_and_went_is_told_by_the_second() -> None:
    replicas, pools = replica_tables(CHANGED)
    rows = {name: [text for text, _ in cells] for name, cells in replicas.rows}
    assert rows == {
        "generator-0": ["4, 33", "20", MISSING],
        "generator-1": ["9", MISSING, "55"],
        "scorer-0": ["5", MISSING, MISSING],
    }
    assert pools.rows == [("generator · sample", [("1 to 2", ""), ("99%", "")])]


@pytest.mark.parametrize("broken", [{"time": 3}, {"time": None, "state": []}, {"utilisation": "x"}, {"name": None}])
def test_events_that_say_nothing_do_no_harm(broken: dict[str, Any], tmp_path: Path) -> None:
    events = [{**one, **broken} for one in CHANGED] + CHANGED
    page = render_report(ReportData("x", "done", {}, {}, [], events))
    assert "Replicas, by seconds since the start" in page
