"""What a live page hears: that something was committed, or that the run's state changed, as server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

from rayalign.commands.serving.runs import Runs
from rayalign.errors import RayalignError

POLL_S = 1.0
ALIVE_S = 15.0
"""A connection that is silent for long may be cut by what lies between."""
MOST = 32


class Listeners:
    """The pages that listen, at most `most` of them.

    Args:
        poll_s: how often files are looked at.
    """

    def __init__(self, most: int = MOST, poll_s: float = POLL_S) -> None:
        self.most, self._poll_s = most, poll_s
        self._now = 0
        self._end = asyncio.Event()

    @property
    def room(self) -> bool:
        """Whether one more may listen."""
        return self._now < self.most

    def end(self) -> None:
        """End all connections: the server stops."""
        self._end.set()

    async def changes(self, runs: Runs, name: str) -> AsyncIterator[str]:
        """An event at once, and one after each change."""
        seen, silent_s = "", 0.0
        self._now += 1
        try:
            while not self._end.is_set():
                now, said = await asyncio.to_thread(_look, runs, name)
                silent_s += self._poll_s
                if now != seen:
                    yield f"event: changed\ndata: {said}\n\n"
                elif silent_s >= ALIVE_S:
                    yield ": alive\n\n"
                else:
                    await self._pause()
                    continue
                seen, silent_s = now, 0.0
                await self._pause()
        finally:
            self._now -= 1

    async def _pause(self) -> None:
        try:
            await asyncio.wait_for(self._end.wait(), self._poll_s)
        except TimeoutError:
            return


def _look(runs: Runs, name: str) -> tuple[str, str]:
    """The run's fingerprint and what is said of it; a run that cannot be read now says why."""
    try:
        state = runs.state(name)
        return runs.fingerprint(name), json.dumps({"rounds": max(state.finished, default=0), "state": state.state})
    except (RayalignError, KeyError, OSError) as error:
        text = " ".join(str(error).split())
        return text, json.dumps({"rounds": 0, "state": "unreadable", "problem": text})
