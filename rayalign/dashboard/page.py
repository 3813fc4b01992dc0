"""Writes a run folder's `report.html`."""

from __future__ import annotations

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
    from rayalign.dashboard.report import ReportData, render_report
    from rayalign.store.files import write_file

    run = SavedRun.at(root)
    run_dir, config = run.run_dir, run.config
    rounds = [report for r in run_dir.rounds() if (report := r.report()) is not None]
    status = f"{max(0, len(rounds) - 1)} of {config['run']['rounds']} rounds"
    events = [one for one in read_events(run_dir.root / "metrics.jsonl") if one.get("event") in SHOWN]
    page = render_report(ReportData(config["run"]["name"], status, config, run_dir.info, rounds, events))
    target = run_dir.root / "report.html"
    with explained(str(target), "{}", COPY):
        write_file(target, page.encode("utf-8", "replace"))
    return target
