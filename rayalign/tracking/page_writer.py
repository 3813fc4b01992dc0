"""Writes the run's page beside the run: all that it says is on disk, and no round has to wait for it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from rayalign.stopping import POLL_S, asked


class PageWriter:
    """One thread at a time, which writes the page as often as it was asked to since it began the last time.

    Args:
        write: writes the page as things stand.
    """

    def __init__(self, write: Callable[[], object]) -> None:
        self._write = write
        self._changed = threading.Condition()
        self._wanted = self._at_work = False
        self._error: BaseException | None = None

    def ask(self) -> None:
        """Have the page written as things stand now, or later.

        Raises:
            Exception: what the write before raised.
        """
        with self._changed:
            self._check()
            self._wanted = True
            if not self._at_work:
                self._at_work = True
                threading.Thread(target=self._work, daemon=True, name="page").start()

    def finish(self) -> None:
        """Wait until all that was asked for is written; at a stop it is left behind. Raises as `ask`."""
        with self._changed:
            while self._at_work and not asked():
                self._changed.wait(POLL_S)
            self._check()

    def _check(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _work(self) -> None:
        while self._is_wanted():
            try:
                self._write()
            except BaseException as error:
                with self._changed:
                    self._error = error

    def _is_wanted(self) -> bool:
        with self._changed:
            wanted, self._wanted = self._wanted, False
            if not wanted:
                self._at_work = False
                self._changed.notify_all()
            return wanted
