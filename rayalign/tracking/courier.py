"""Who takes a run's finished rounds to a tracker: one thread per tracker, so that a slow one holds nothing up.

    run folder: finished rounds ──► Courier (a thread) ──► tracker
                                       │
                                       └──► tracking/NAME.json in the run folder: its id there, and the rounds it has

What a tracker lacks is what the folder has and `tracking/NAME.json` does not name. So a round that could not be sent is
sent with the next one, or when the run is resumed, and a tracker that is named later gets all rounds.
"""

from __future__ import annotations

import json
import logging
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rayalign.records import JsonObject
from rayalign.store.folder import Folder
from rayalign.store.run_dir import RunDir
from rayalign.tracking.points import points_of
from rayalign.tracking.tracker import Answer, Told, TrackedRun, Tracker

Say = Callable[[str], None]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Memory:
    """What a tracker has of a run."""

    id: str
    rounds: tuple[int, ...] = ()

    @classmethod
    def read(cls, file: Folder) -> Memory | None:
        text = file.find_text()
        if text is None:
            return None
        found = json.loads(text)
        return cls(str(found["id"]), tuple(int(index) for index in found["rounds"]))

    def write(self, file: Folder) -> None:
        file.write_bytes(json.dumps({"id": self.id, "rounds": list(self.rounds)}).encode())


class Courier:
    """Takes the rounds of a run to one tracker, in a thread of its own.

    Args:
        name: of the tracker, for messages and its file.
        config: the run's, secrets redacted.
        say: told once that a tracker fails, and at the end what it lacks.
    """

    def __init__(self, name: str, tracker: Tracker, run_dir: RunDir, config: JsonObject, say: Say) -> None:
        self.name = name
        self._tracker, self._config, self._say = tracker, config, say
        # The driver's own remembers what is finished, and is not made for two threads.
        self._run_dir = RunDir(run_dir.root)
        self._file = run_dir.root / "tracking" / f"{name}.json"
        self._problem: str | None = None
        self._opened = self._told = False
        self._left = False
        """Whether nobody waits for the thread any more."""
        self._work, self._ending = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name=f"tracker-{name}")
        self._thread.start()
        self.wake()

    def wake(self) -> None:
        """There is a finished round."""
        self._work.set()

    def end(self) -> None:
        """No more rounds will be finished."""
        self._ending.set()
        self._work.set()

    def wait(self, timeout_s: float) -> None:
        """Wait for the thread after `end`, and say what the tracker lacks."""
        self._thread.join(timeout_s)
        self._left = self._thread.is_alive()
        lacking: list[int] = []
        self._attempt(lambda: lacking.extend(self._lacking()))
        why = f"it is still at work after {timeout_s:g} s" if self._left else self._problem
        if lacking:
            rounds = ", ".join(map(str, lacking))
            self._say(f"{self.name} lacks rounds {rounds}: {why}; the same command sends them")
        elif why:
            self._say(f"{self.name}: {why}; look there whether it has all")

    def _run(self) -> None:
        last = False
        while not last:
            self._work.wait()
            self._work.clear()
            # Looked at before the delivery, which may miss a round that is finished while it goes on.
            last = self._ending.is_set()
            self._attempt(self._deliver)
        if self._opened:
            self._attempt(self._tracker.close)

    def _attempt(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:
            if self._left and threading.current_thread() is self._thread:
                return
            # Whatever a tracker or its network does, the run goes on; it is said here and at the end.
            _log.exception("tracker %s", self.name)
            self._problem = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            if not self._told:
                self._told = True
                self._say(f"{self.name} fails, the run goes on: {self._problem}")

    def _deliver(self) -> None:
        finished = self._run_dir.rounds()
        memory = Memory.read(self._file)
        begun = memory is not None
        memory = memory or Memory(uuid.uuid4().hex)
        lacking = [one for one in finished if one.index not in memory.rounds]
        if not lacking:
            return
        if not self._opened:
            run = TrackedRun(self._run_dir.root.name, self._config, memory.id, begun, lacking[0].index)
            memory = Memory(self._tracker.open(run), memory.rounds)
            self._opened = True
            memory.write(self._file)
        for one in lacking:
            self._tracker.tell(told_of(one.index, one.report() or {}))
            memory = Memory(memory.id, (*memory.rounds, one.index))
            memory.write(self._file)

    def _lacking(self) -> list[int]:
        """Finished rounds that the tracker does not have, as the folder tells it."""
        memory = Memory.read(self._file)
        return [
            one.index for one in RunDir(self._run_dir.root).rounds() if not memory or one.index not in memory.rounds
        ]


def told_of(round_index: int, report: JsonObject) -> Told:
    return Told(round_index, points_of(report), list(_answers(report)))


def _answers(report: JsonObject) -> Iterator[Answer]:
    for found in report.get("answers") or []:
        reward = found.get("reward")
        yield Answer(
            prompt=str(found.get("prompt")),
            response=str(found.get("response")),
            reward=float(reward) if isinstance(reward, int | float) else None,
        )
