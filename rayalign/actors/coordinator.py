"""The meeting point of the driver and the learner's workers.

Ray Train restarts the whole worker group when one worker dies. So every group announces itself as a new attempt; the
coordinator hands the current task to the newest attempt as often as needed and drops answers of older ones. A task
is finished when every rank of one attempt has answered it, or one has failed. A finished task is handed to nobody:
of a new attempt one rank could ask before the driver submits the next and get it, and another after.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import ray

from rayalign.records import AdapterFiles, JsonObject, TokenSequence, UpdateResult, Which
from rayalign.store.folder import Folder

MOST_HALVINGS = 2
"""Of `training.tokens_per_micro_batch`, in a run's process."""


@dataclass(frozen=True, slots=True)
class UpdateWork:
    """One round of training on the groups in `files` below `folder`, from `parent` (null: from the base)."""

    round_index: int
    folder: Folder
    files: list[str]
    parent: AdapterFiles | None
    sampler: AdapterFiles | None
    """The adapter that sampled their responses (null: the base): the policy of `reference: round_start`."""
    reward_spread: float | None = None
    """What their commit says of their rewards, where an objective's alpha is `auto`; null where it says nothing."""
    rate: float = 1.0
    """How many times the config's learning rate the steps have."""


@dataclass(frozen=True, slots=True)
class LogpsWork:
    """The log-probabilities of some sequences under one of three policies."""

    sequences: Sequence[TokenSequence]
    which: Which
    current: AdapterFiles | None
    round_start: AdapterFiles | None


@dataclass(frozen=True, slots=True)
class TurnWork:
    """Take the device, or leave it to others."""

    takes: bool


Work: TypeAlias = UpdateWork | LogpsWork | TurnWork


@dataclass(frozen=True, slots=True)
class Task:
    """Work for all ranks."""

    id: int
    work: Work


@dataclass(frozen=True, slots=True)
class Failed:
    """What a rank says where the task or the start itself is at fault: a new attempt would fail again."""

    error: Exception


Answer: TypeAlias = UpdateResult | list[list[float]] | Failed | None
"""What a rank says of a task; null on all ranks but the first, unless it failed."""


class Coordinator:
    """An async actor; every method is idempotent."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._attempt = 0
        self._world = 0
        self._workers: dict[int, JsonObject] = {}
        self._task: Task | None = None
        self._answers: dict[int, Answer] = {}
        self._finished = 0
        self._outcome: Answer = None
        self._no_start: Failed | None = None
        self._stopped = False
        self._progress = 0.0
        self._halvings = self._halved = 0
        """How often the token budget is halved, and for which attempt last."""

    @ray.method
    async def begin_attempt(self, world: int) -> tuple[int, int]:
        """Begin the attempt of a new worker group, whose rank 0 calls this.

        Returns:
            The attempt's number, and how often its token budget is halved.
        """
        async with self._changed:
            self._attempt += 1
            self._world = world
            self._workers, self._answers, self._progress = {}, {}, 0.0
            self._changed.notify_all()
            return self._attempt, self._halvings

    @ray.method
    async def halve(self, attempt: int) -> bool:
        """A rank ran out of memory: whether the next attempt may try it with half the token budget."""
        if attempt == self._attempt and attempt != self._halved:
            if self._halvings == MOST_HALVINGS:
                return False
            self._halved, self._halvings = attempt, self._halvings + 1
        return True

    @ray.method
    async def announce(self, attempt: int, rank: int, description: JsonObject) -> None:
        async with self._changed:
            if attempt == self._attempt:
                self._workers[rank] = description
                self._changed.notify_all()

    @ray.method
    async def cannot_start(self, failure: Failed) -> None:
        """A rank met an error that a new attempt would meet again before it could take any task."""
        async with self._changed:
            self._no_start = failure
            self._changed.notify_all()

    @ray.method
    async def next_task(self, attempt: int, after: int) -> Task | None:
        """Wait for a task newer than `after` that is not finished; None tells the worker to end (stopped, or a newer
        attempt took over)."""

        def over() -> bool:
            return self._stopped or attempt != self._attempt

        def there() -> bool:
            return self._task is not None and self._task.id > max(after, self._finished)

        async with self._changed:
            await self._changed.wait_for(lambda: over() or there())
            return None if over() else self._task

    @ray.method
    async def answer(self, attempt: int, rank: int, task_id: int, result: Answer) -> None:
        async with self._changed:
            stale = attempt != self._attempt or task_id <= self._finished
            if stale or self._task is None or task_id != self._task.id:
                return
            self._answers[rank] = result
            # A rank that failed may leave the others waiting for it inside a collective.
            if isinstance(result, Failed) or len(self._answers) == self._world:
                self._finished = task_id
                self._outcome = result if isinstance(result, Failed) else self._answers[0]
            self._changed.notify_all()

    @ray.method
    async def note(self, attempt: int, share: float) -> None:
        """How much of the current task is done, 0 to 1, by what the first rank has done of its part."""
        if attempt == self._attempt:
            self._progress = share

    @ray.method
    async def progress(self) -> float:
        return self._progress

    @ray.method
    async def submit(self, task: Task) -> None:
        async with self._changed:
            self._task, self._answers, self._progress = task, {}, 0.0
            self._changed.notify_all()

    @ray.method
    async def wait(self, task_id: int, timeout_s: float) -> tuple[bool, Answer]:
        """(True, rank 0's answer, or the first failure) when all ranks answered; (False, None) after `timeout_s`."""
        async with self._changed:
            if not await self._in_time(lambda: self._finished == task_id, timeout_s):
                return False, None
            return True, self._outcome if self._finished == task_id else self._no_start

    @ray.method
    async def ready(self, timeout_s: float) -> list[JsonObject] | Failed | None:
        """Descriptions of all workers once the group is complete, or why it cannot be; None after `timeout_s`."""
        async with self._changed:
            if not await self._in_time(lambda: 0 < self._world == len(self._workers), timeout_s):
                return None
            return self._no_start or [self._workers[rank] for rank in sorted(self._workers)]

    @ray.method
    async def stop(self) -> None:
        async with self._changed:
            self._stopped = True
            self._changed.notify_all()

    async def _in_time(self, met: Callable[[], bool], timeout_s: float) -> bool:
        """Whether a condition is met, or no attempt can start, within `timeout_s`; the caller holds the lock."""
        try:
            await asyncio.wait_for(self._changed.wait_for(lambda: self._no_start is not None or met()), timeout_s)
        except TimeoutError:
            return False
        return True
