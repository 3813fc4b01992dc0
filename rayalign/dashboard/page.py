"""Writes a run folder's `report.html`."""

from __future__ import annotations

from rayalign.records import JsonObject
from rayalign.store.event_log import read_events
from rayalign.store.files import Place
from rayalign.store.folder import Folder
from rayalign.store.saved_run import SavedRun
from rayalign.store.writable import COPY, explained

SHOWN = ("start", "replica", "pool")
"""The events that the page needs."""


def write_report(root: Place | str) -> Folder:
    """Rewrite `report.html` from the run folder.

    Raises:
        RunFolderError: the folder holds no run, or one of another schema version, or cannot be written to.
    """
    from rayalign.dashboard.selection import embedded
    from rayalign.store.files import write_file

    run = SavedRun.at(root)
    page = run_page(run, embedded(run))
    target = run.run_dir.root / "report.html"
    with explained(str(target), "{}", COPY):
        write_file(target, page.encode("utf-8", "replace"))
    return target


def run_page(run: SavedRun, browser: JsonObject, status: str | None = None) -> str:
    """The page of a run.

    Args:
        browser: what feeds the browser of answers: `selection.embedded`, or where a server has them.
        status: `running`, `done`, `stopped` or `failed`; None says how many rounds are done.
    """
    from rayalign.dashboard.report import ReportData, render_report

    run_dir, config = run.run_dir, run.config
    rounds = [report for r in run_dir.rounds() if (report := r.report()) is not None]
    done = f"{max(0, len(rounds) - 1)} of {config['run']['rounds']} rounds"
    events = [one for one in read_events(run_dir.root / "metrics.jsonl") if one.get("event") in SHOWN]
    data = ReportData(config["run"]["name"], status or done, config, run_dir.info, rounds, events, browser)
    return render_report(data)
