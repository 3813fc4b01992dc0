"""`rayalign verify`: what of a run folder is damaged, what becomes of it, and the repair."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence

from rayalign.errors import EXIT_FAILURE, EXIT_OK
from rayalign.store.files import json_value
from rayalign.store.saved_run import SavedRun
from rayalign.store.verify import SET_ASIDE, Finding, findings, repair as repair_run
from rayalign.tracking.console import terminal_text


def verify(place: str, say: Callable[[str], None], *, repair: bool, as_json: bool) -> int:
    """Check a run; returns the exit code.

    Args:
        repair: set damaged files aside, and write again what others hold; refused while a process works on the run.

    Raises:
        RunFolderError: there is no run, or with `repair` it is in use.
    """
    run = SavedRun.at(place)
    if repair:
        with run.run_dir.lock():
            found = findings(run.run_dir)
            repair_run(run.run_dir, found)
    else:
        found = findings(run.run_dir)
    say(_said(run.name, found, repair, as_json))
    bad = [one for one in found if one.fate == "lost" or not repair]
    return EXIT_FAILURE if bad else EXIT_OK


def _said(name: str, found: Sequence[Finding], repaired: bool, as_json: bool) -> str:
    if as_json:
        return json.dumps(
            json_value({"run": name, "repaired": repaired, "found": [dataclasses.asdict(f) for f in found]})
        )
    if not found:
        return terminal_text(f"{name}: whole")
    lines = [f"{name}: {len(found)} damaged", *(f"  {one}" for one in found)]
    if repaired:
        lines.append(f"repaired; what was damaged is in {SET_ASIDE}/ of the run")
    elif any(one.fate != "lost" for one in found):
        lines.append(f"to set it aside and have a resume make it again: rayalign verify {name} --repair")
    return terminal_text("\n".join(lines))
