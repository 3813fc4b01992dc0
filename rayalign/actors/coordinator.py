"""The meeting point of the driver and the learner's workers.

Ray Train restarts the whole worker group when one worker dies. So every group announces itself as a new attempt; the
coordinator hands the current task to the newest attempt as often as needed and drops answers of older ones. A task
is done when every rank of one attempt has answered it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Task:
    """Work for all ranks."""

    id: int
    kind: Literal["update", "logps"]
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Failed:
    """A rank's answer where the task itself is at fault: repeating it on a new attempt would fail again."""

    error: Exception


class Coordinator:
    """An async actor; every method is idempotent."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._attempt = 0
        self._world = 0
        self._workers: dict[int, dict[str, Any]] = {}
        self._task: Task | None = None
        self._answers: dict[int, Any] = {}
        self._stopped = False

    async def begin_attempt(self, world: int) -> int:
        """Called by rank 0 of a new worker group; returns the attempt's number."""
        async with self._changed:
            self._attempt += 1
            self._world = world
            self._workers, self._answers = {}, {}
            self._changed.notify_all()
            return self._attempt

    async def announce(self, attempt: int, rank: int, description: dict[str, Any]) -> None:
        async with self._changed:
            if attempt == self._attempt:
                self._workers[rank] = description
                self._changed.notify_all()

    async def next_task(self, attempt: int, after: int) -> Task | None:
        """Wait for a task newer than `after`; None tells the worker to end (stopped, or a newer attempt took over)."""
        async with self._changed:
            await self._changed.wait_for(
                lambda: self._stopped or attempt != self._attempt or (self._task is not None and self._task.id > after)
            )
            return None if self._stopped or attempt != self._attempt else self._task

    async def answer(self, attempt: int, rank: int, task_id: int, result: Any) -> None:
        async with self._changed:
            if attempt != self._attempt or self._task is None or task_id != self._task.id:
                return
            self._answers[rank] = result
            self._changed.notify_all()

    async def submit(self, task: Task) -> None:
        async with self._changed:
            self._task, self._answers = task, {}
            self._changed.notify_all()

    async def wait(self, task_id: int, timeout_s: float) -> tuple[bool, Any]:
        """(True, rank 0's answer, or the first failure) when all ranks answered; (False, None) after `timeout_s`."""
        async with self._changed:
            try:
                await asyncio.wait_for(self._changed.wait_for(lambda: self._done(task_id)), timeout_s)
            except TimeoutError:
                return False, None
            failures = [a for _, a in sorted(self._answers.items()) if isinstance(a, Failed)]
            return True, failures[0] if failures else self._answers[0]

    async def ready(self, timeout_s: float) -> list[dict[str, Any]] | None:
        """Descriptions of all workers once the group is complete; None after `timeout_s`."""
        async with self._changed:
            try:
                await asyncio.wait_for(self._changed.wait_for(lambda: 0 < self._world == len(self._workers)), timeout_s)
            except TimeoutError:
                return None
            return [self._workers[rank] for rank in sorted(self._workers)]

    async def stop(self) -> None:
        async with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _done(self, task_id: int) -> bool:
        if self._task is None or self._task.id != task_id:
            return False
        # A rank that failed may leave the others waiting for it inside a collective.
        failed = any(isinstance(answer, Failed) for answer in self._answers.values())
        return failed or len(self._answers) == self._world > 0
