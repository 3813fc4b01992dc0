"""The child process of `isolation.RuleProcess`: runs a user's rule and answers over a socket.

    parent -> Setup once, then lists of items          child -> None when ready, then lists of (place, outcome)

The shared file `progress` holds two integers, a counter that moves with every step and the place of the item that
runs now. The parent reads them to see who is stuck, and who was running when the process died.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

from rayalign.scoring.rules.calls import (
    IDLE,
    AsyncCalls,
    Item,
    Outcome,
    call_batch,
    call_batch_async,
    call_each,
    is_async,
)
from rayalign.scoring.rules.file import RuleSource, compile_rule

FLUSH_S = 0.05
"""Outcomes go to the parent this often: what a crash makes it do again is less than that, and one item."""
PROGRESS_BYTES = 16
Reply = list[tuple[int, Outcome]]


@dataclass(frozen=True, slots=True)
class Setup:
    """What the child is told first."""

    source: RuleSource
    batch: bool
    concurrency: int
    timeout_s: float


class Progress:
    """The two shared integers."""

    def __init__(self, descriptor: int) -> None:
        self._view = memoryview(mmap.mmap(descriptor, PROGRESS_BYTES)).cast("q")

    def mark(self, place: int) -> None:
        self._view[1] = place
        self._view[0] += 1

    def read(self) -> tuple[int, int]:
        """The counter of steps and the place of the item that runs."""
        return self._view[0], self._view[1]


class _Sender:
    """Collects outcomes and sends them from time to time."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._waiting: Reply = []
        self._sent = time.perf_counter()

    def add(self, place: int, outcome: Outcome) -> None:
        self._waiting.append((place, outcome))
        if time.perf_counter() - self._sent > FLUSH_S:
            self.flush()

    def flush(self) -> None:
        self._connection.send(self._waiting)
        self._waiting, self._sent = [], time.perf_counter()


class _Worker:
    def __init__(self, connection: Connection, progress: Progress, setup: Setup) -> None:
        self._progress, self._setup, self._connection = progress, setup, connection
        self._function = compile_rule(setup.source)
        self._loop = asyncio.new_event_loop() if is_async(self._function) else None
        self._calls: AsyncCalls | None = None

    def run(self, items: Sequence[Item]) -> None:
        sender = _Sender(self._connection)
        if self._setup.batch:
            for place, outcome in enumerate(self._batch(items)):
                sender.add(place, outcome)
        elif self._loop:
            self._loop.run_until_complete(self._each_async(items, sender))
        else:
            for place, outcome in enumerate(call_each(self._function, items, self._progress.mark)):
                sender.add(place, outcome)
        self._progress.mark(IDLE)
        sender.flush()

    def _batch(self, items: Sequence[Item]) -> list[Outcome]:
        if self._loop is None:
            return call_batch(self._function, items, self._progress.mark)
        timeout_s = self._setup.timeout_s
        return self._loop.run_until_complete(call_batch_async(self._function, items, timeout_s, self._progress.mark))

    async def _each_async(self, items: Sequence[Item], sender: _Sender) -> None:
        if self._calls is None:
            setup = self._setup
            self._calls = AsyncCalls(self._function, setup.concurrency, setup.timeout_s, self._progress.mark)
        await self._calls.each(items, sender.add)


def _end_with(parent: int) -> None:
    """A rule in an endless loop must not outlive a parent that was killed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    connection, progress = Connection(int(sys.argv[1])), Progress(int(sys.argv[2]))
    _end_with(int(sys.argv[3]))
    # What the user's file prints goes to the log.
    os.dup2(2, 1)
    setup: Setup = connection.recv()
    worker = _Worker(connection, progress, setup)
    connection.send(None)
    while True:
        try:
            items = connection.recv()
        except EOFError:
            return
        worker.run(items)


if __name__ == "__main__":
    main()
