"""Writes a run folder's `report.html`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rayalign.store.files import Place
from rayalign.store.folder import Folder
from rayalign.store.saved_run import SavedRun
from rayalign.store.writable import COPY, explained

if TYPE_CHECKING:
    from collections.abc import Callable

    from rayalign.dashboard.report import ReportData
    from rayalign.records import JsonObject


def write_report(root: Place | str) -> Folder:
    """Rewrite `report.html` from the run folder.

    Raises:
        RunFolderError: the folder holds no run, or one of another schema version, or cannot be written to.
    """
    from rayalign.dashboard.report import render_report
    from rayalign.dashboard.selection import embedded
    from rayalign.store.files import write_file

    run = SavedRun.at(root)
    page = render_report(report_data(run, lambda: embedded(run)))
    target = run.run_dir.root / "report.html"
    with explained(str(target), "{}", COPY):
        write_file(target, page.encode("utf-8", "replace"))
    return target


def report_data(run: SavedRun, browser: Callable[[], JsonObject] | None = None) -> ReportData:
    """What the page says of a run, read from its folder.

    Args:
        browser: gives what the browser of answers is fed with.
    """
    from rayalign.dashboard.readings import section
    from rayalign.dashboard.report import ReportData
    from rayalign.dashboard.run_files import read_run

    found, asked = read_run(run.run_dir), section(run.config.get("run"))
    return ReportData(
        run.name,
        f"{max(0, len(found.reports) - 1)} of {asked.get('rounds', '?')} rounds",
        run.config,
        run.run_dir.info,
        found.reports,
        found.events,
        found.held_out,
        found.problems,
        browser,
    )
