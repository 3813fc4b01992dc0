"""The runs below a folder: found, opened when they are asked for, and summed up once until their files change."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rayalign.dashboard.alarms import page_alarms
from rayalign.dashboard.answers import AnswerStore
from rayalign.dashboard.readings import Reading, Report, clean_report, clean_text, reading, section
from rayalign.dashboard.run_files import read_report
from rayalign.dashboard.verdicts import verdict
from rayalign.display import display, format_value
from rayalign.errors import RayalignError, RunFolderError
from rayalign.store.damage import damaged_log, lost_rounds
from rayalign.store.folder import Folder
from rayalign.store.run_state import RunState, run_state
from rayalign.store.saved_run import SavedRun

OPEN = 3
"""Runs whose answers are in memory at a time."""
MOST_KEPT = {"page": 4}
"""Pages that are kept, each of some megabytes."""
FRESH_S = 1.0
"""So long a look at a folder is good for."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Summary:
    """A run in one line. `problem`: why it cannot be shown, else null."""

    name: str
    state: str
    finished: int
    rounds: int
    headline: str
    alarms: Sequence[str]
    problem: str | None = None


class Runs:
    """The runs in a folder, or the one run that the folder is. Safe to use from several threads.

    Args:
        root: a run's folder, or one whose folders are runs; local or on an object store.

    Raises:
        RunFolderError: there is no run.
    """

    def __init__(self, root: str) -> None:
        self._root = Folder(root)
        self._lock = threading.Lock()
        self._stores: OrderedDict[str, AnswerStore] = OrderedDict()
        self._opened: dict[str, tuple[bytes, SavedRun]] = {}
        self._fresh: dict[tuple[str, str], tuple[float, object]] = {}
        self._made: dict[tuple[str, str], tuple[str, object]] = {}
        if not self.names():
            raise RunFolderError(
                f"{root} holds no run",
                "neither it nor a folder in it has a config.yaml" if self._root.exists() else "there is no such folder",
                "give a run's folder, or the folder of runs (run.dir in the config, runs/ by default)",
            )

    def names(self) -> list[str]:
        """Names of all runs, sorted."""
        return sorted(self._for_a_moment("", "places", self._places))

    def run(self, name: str) -> SavedRun:
        """A run by its name.

        Raises:
            KeyError: there is none.
            RunFolderError: it cannot be read.
        """
        return self._for_a_moment(name, "run", lambda: self._open(name))

    def _open(self, name: str) -> SavedRun:
        """A run, the same object as long as its config is the same: it remembers which rounds are finished."""
        place = self._for_a_moment("", "places", self._places)[name]
        config = (place / "config.yaml").find_bytes() or b""
        kept = self._opened.get(name)
        if kept is None or kept[0] != config:
            kept = self._opened[name] = config, SavedRun.at(place)
        return kept[1]

    def _places(self) -> dict[str, Folder]:
        if (self._root / "config.yaml").exists():
            return {self._root.name or "run": self._root}
        places = {name: self._root / name for name in self._root.names() if not name.startswith(".")}
        return {name: place for name, place in places.items() if self._is_inside(place) and _is_run(place)}

    def _is_inside(self, place: Folder) -> bool:
        """Whether a folder is where it seems to be, and no link to elsewhere."""
        if not place.is_local:
            return True
        try:
            return place.local_path().resolve().is_relative_to(Path(self._root.local_path()).resolve())
        except (OSError, RuntimeError):
            return False

    def state(self, name: str) -> RunState:
        """Where a run stands, at most a moment ago."""
        return self._for_a_moment(name, "state", lambda: run_state(self.run(name)))

    def fingerprint(self, name: str) -> str:
        """Changes when anything was committed, or the run's state changed."""
        return self._for_a_moment(name, "fingerprint", lambda: self._look(name))

    def _look(self, name: str) -> str:
        state = self.state(name)
        seen = [state.state, state.finished, state.in_flight, state.commits, self.run(name).run_dir.info]
        return hashlib.sha256(repr(seen).encode()).hexdigest()

    def answers(self, name: str) -> AnswerStore:
        """A run's answers; those asked for last stay in memory."""
        run = self.run(name)
        with self._lock:
            store = self._stores.pop(name, None) or AnswerStore(run)
            self._stores[name] = store
            while len(self._stores) > OPEN:
                self._stores.popitem(last=False)
        return store

    def summary(self, name: str) -> Summary:
        """A run in one line, also one that cannot be read."""
        try:
            return self.unchanged(name, "summary", lambda: _summary(self.run(name), self.state(name)))
        except (RayalignError, OSError) as error:
            return Summary(clean_text(name), "unreadable", 0, 0, "", (), clean_text(str(error)))

    def unchanged(self, name: str, what: str, make: Callable[[], T]) -> T:
        """What was made of a run since its files last changed, or else is made now."""
        seen = self.fingerprint(name)
        kept = self._made.get((name, what))
        if kept is None or kept[0] != seen:
            kept = seen, make()
            with self._lock:
                same = [key for key in self._made if key[1] == what and key != (name, what)]
                for key in same[: max(0, len(same) - MOST_KEPT.get(what, len(same)) + 1)]:
                    del self._made[key]
                self._made[name, what] = kept
        return kept[1]  # pyright: ignore[reportReturnType]

    def _for_a_moment(self, name: str, what: str, make: Callable[[], T]) -> T:
        now = time.monotonic()
        kept = self._fresh.get((name, what))
        if kept is None or now - kept[0] > FRESH_S:
            kept = self._fresh[name, what] = now, make()
        return kept[1]  # pyright: ignore[reportReturnType]


def _is_run(place: Folder) -> bool:
    """Whether a folder has a run's config, and not that of a training stage, which begins with its kind."""
    try:
        found = (place / "config.yaml").find_bytes()
    except OSError:
        return True  # It is listed with what is wrong.
    return found is not None and not found.startswith(b"stage:")


def _summary(run: SavedRun, state: RunState) -> Summary:
    """Without the answers, which are much to read for a line: the verdict is the one of the reports."""
    problems = [f"round {index} {lost}" for index, lost in lost_rounds(run.run_dir).items()]
    read = [(one.index, read_report(one, problems)) for one in run.run_dir.rounds()]
    reports = [(index, clean_report(report)) for index, report in read if report is not None]
    readings = [(index, metrics) for index, report in reports if (metrics := _readings(report))]
    found = verdict(reports, readings, (), clean_report(run.config))
    alarms = [*problems, *damaged_log(run.run_dir)]
    alarms += [f"{one.kind.title} (round {one.seen[0][0]})" for one in page_alarms(reports, readings, found)]
    headline = ""
    if found is not None:
        shown = display(found.metric)
        ends = dict.fromkeys((found.first, found.last))
        values = " → ".join(format_value(value.value, shown.style) for _, value in ends)
        headline = f"{shown.label} {values}"
    done = max(0, len(state.finished) - 1)
    return Summary(clean_text(run.name), state.state, done, state.rounds, headline, alarms)


def _readings(report: Report) -> dict[str, Reading]:
    metrics = section(report.get("metrics")).items()
    return {name: found for name, metric in metrics if (found := reading(metric)) is not None}
