"""What a stage shows while nothing ends: at each beat, how much is done, also of what is under way."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

Probe = Callable[[], int]
"""How many items are done of work that is under way, and not counted yet."""
_log = logging.getLogger(__name__)


class Pulse:
    """Calls `beat` with the items done of what is under way, every `interval_s` until it is stopped.

    Args:
        probe: asked at each beat; after it raised once it is not asked again.
    """

    def __init__(self, interval_s: float, beat: Callable[[int], None], probe: Probe | None) -> None:
        self._interval_s, self._beat, self._probe = interval_s, beat, probe
        self._ended, self._beating = threading.Event(), threading.Lock()
        threading.Thread(target=self._run, daemon=True, name="pulse").start()

    def stop(self) -> None:
        """End the beats; none comes after this. A probe under way is not waited for, and what it answers not shown."""
        with self._beating:
            self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(self._interval_s):
            under_way = self._ask()
            with self._beating:
                if not self._ended.is_set():
                    self._beat(under_way)

    def _ask(self) -> int:
        if self._probe is None:
            return 0
        try:
            return self._probe()
        except Exception:
            # What is wrong with an actor is told by the call that waits for it; this only shows how far it is.
            _log.exception("progress is shown by what has ended alone")
            self._probe = None
            return 0
