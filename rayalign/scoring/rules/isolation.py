"""A rule in a child process: endless loops, crashes and memory errors cost the item at fault and nothing else.

Items go out in chunks, so that isolation costs little per item. When an item is late the child is killed, when it
crashes it has ended already; either way that item gets its `timeout` or `error`, a new child starts, and the items of
the chunk that have no outcome yet are done again.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

from rayalign.errors import DataError
from rayalign.scoring.failures import Alone
from rayalign.scoring.rules.calls import IDLE, Item, Outcome, alone, failed, late, late_batch
from rayalign.scoring.rules.worker import FLUSH_S, PROGRESS_BYTES, Progress, Setup

CHUNK = 1024
START_TIMEOUT_S = 120.0


class RuleProcess:
    """One child process, restarted as often as the rule brings it down. Calls from several threads wait in line."""

    def __init__(self, setup: Setup) -> None:
        """Start the child.

        Raises:
            DataError: the user's file ends it, or does not get ready in time.
        """
        self._setup = setup
        self._lock = threading.Lock()
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - held for as long as the process may be restarted
        self._file.truncate(PROGRESS_BYTES)
        self._progress = Progress(self._file.fileno())
        self._child: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        try:
            self._start()
        except DataError:
            self._file.close()
            raise

    def run(self, items: Sequence[Item]) -> list[Outcome]:
        """One outcome per item, in their order."""
        outcomes: list[Outcome | None] = [None] * len(items)
        size = max(1, len(items)) if self._setup.batch else CHUNK
        with self._lock:
            for start in range(0, len(items), size):
                pending = list(range(start, min(start + size, len(items))))
                while pending:
                    self._attempt(items, pending, outcomes)
                    pending = [place for place in pending if outcomes[place] is None]
        return [outcome for outcome in outcomes if outcome is not None]

    def close(self) -> None:
        """End the child."""
        with self._lock:
            self._kill()
            self._file.close()

    def _attempt(self, items: Sequence[Item], pending: list[int], outcomes: list[Outcome | None]) -> None:
        """Run items in the child until all are done or one brings it down; gives at least one of them an outcome."""
        try:
            connection = self._connection or self._start()
        except DataError as error:
            for place in pending:
                outcomes[place] = ("error", None, f"the rule's process did not start again: {error.why}", 0.0)
            return
        self._progress.mark(IDLE)
        try:
            connection.send([items[place] for place in pending])
            left = len(pending)
            while left:
                if not self._wait(connection, len(pending)):
                    self._blame(pending, outcomes, self._late(len(pending)))
                    return
                reply = connection.recv()
                for place, outcome in reply:
                    outcomes[pending[place]] = outcome
                left -= len(reply)
        except (EOFError, OSError):
            self._blame(pending, outcomes, self._crashed())
            if self._setup.batch:
                self._ask_alone(items, pending, outcomes)
        except BaseException:
            # A reply that is still on its way would be taken for the answer to the next question.
            self._kill()
            raise

    def _ask_alone(self, items: Sequence[Item], places: list[int], outcomes: list[Outcome | None]) -> None:
        """Ask for each item of a batch that brought the child down."""
        again = Alone(len(places))
        for i in again.places():
            found: list[Outcome | None] = [None]
            self._attempt([items[places[i]]], [0], found)
            outcome = found[0]
            assert outcome is not None
            outcomes[places[i]] = alone(outcome)
            again.note(failed(outcome))

    def _wait(self, connection: Connection, count: int) -> bool:
        """Wait for a reply; False where one item has been running for longer than its limit."""
        limit = self._setup.timeout_s * (count if self._setup.batch else 1)
        tick = min(limit / 4, FLUSH_S)
        seen, since = self._progress.read(), time.monotonic()
        while not connection.poll(tick):
            now = self._progress.read()
            if now != seen or now[1] == IDLE:
                # Counted from when it was seen to begin: a parent that slept itself blames nobody.
                seen, since = now, time.monotonic()
            elif time.monotonic() - since > limit:
                return False
        return True

    def _blame(self, pending: list[int], outcomes: list[Outcome | None], outcome: Outcome) -> None:
        """Give the outcome to whom it belongs: the item that ran, or the whole batch."""
        place = self._progress.read()[1]
        self._kill()
        if self._setup.batch:
            at_fault = pending
        elif place != IDLE:
            at_fault = [pending[place]]
        else:
            # Nobody's code ran (a thread of the rule's own ended the process): without this it could go on for ever.
            at_fault = [] if any(outcomes[p] is not None for p in pending) else pending[:1]
        for fault in at_fault:
            if outcomes[fault] is None:
                outcomes[fault] = outcome

    def _late(self, count: int) -> Outcome:
        limit = self._setup.timeout_s
        return late_batch(limit * count, count) if self._setup.batch else late(limit, limit)

    def _crashed(self) -> Outcome:
        assert self._child is not None
        code = self._child.wait()
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit status {code}"
        return "error", None, f"the rule's process {how} on this answer", 0.0

    def _start(self) -> Connection:
        connection, theirs = Pipe()
        command = [sys.executable, "-m", "rayalign.scoring.rules.worker", str(theirs.fileno())]
        command += [str(self._file.fileno()), str(os.getpid())]
        root = str(Path(__file__).resolve().parents[3])
        # The child imports what this process can import.
        env = os.environ | {"PYTHONPATH": os.pathsep.join([root, *filter(None, sys.path)])}
        self._child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            env=env,
            start_new_session=True,
            pass_fds=(theirs.fileno(), self._file.fileno()),
        )
        theirs.close()
        self._connection = connection
        try:
            connection.send(self._setup)
            if connection.poll(START_TIMEOUT_S):
                connection.recv()
                return connection
            why = f"it was not ready after {START_TIMEOUT_S:g} s"
        except (EOFError, OSError):
            why = f"it ended with exit status {self._child.wait()}; its last words are in the log"
        self._kill()
        raise DataError(
            f"scoring.function: {self._setup.source.path} does not start in a process of its own",
            why,
            "make the file import quickly and without side effects, or leave timeout_s out",
        )

    def _kill(self) -> None:
        if self._child is not None:
            try:
                os.killpg(self._child.pid, signal.SIGKILL)
            except ProcessLookupError:
                self._child.kill()
            self._child.wait()
        if self._connection is not None:
            self._connection.close()
        self._child = self._connection = None
