"""What the driver hears of a learner that cannot start; the coordinator without Ray."""

from __future__ import annotations

import asyncio

from rayalign.actors.coordinator import Coordinator, Failed, LogpsWork, Task
from rayalign.errors import ModelError


def test_an_error_before_the_first_task_is_told_at_once() -> None:
    """One rank of two has announced itself; the other never will, and no attempt after it."""

    async def story() -> None:
        coordinator = Coordinator()
        attempt = await coordinator.begin_attempt(2)
        await coordinator.announce(attempt, 0, {"name": "learner-0"})
        assert await coordinator.ready(0.01) is None
        waiting = asyncio.create_task(coordinator.ready(60))
        await asyncio.sleep(0)
        failed = Failed(ModelError("found", "why", "remedy"))
        await coordinator.cannot_start(failed)
        assert await waiting == failed
        await coordinator.submit(Task(1, LogpsWork([], "base", None, None)))
        assert await coordinator.wait(1, 60) == (True, failed)

    asyncio.run(asyncio.wait_for(story(), 30))


def test_a_whole_group_is_ready() -> None:
    async def story() -> None:
        coordinator = Coordinator()
        attempt = await coordinator.begin_attempt(1)
        await coordinator.announce(attempt, 0, {"name": "learner-0"})
        assert await coordinator.ready(1) == [{"name": "learner-0"}]
        await coordinator.submit(Task(1, LogpsWork([], "base", None, None)))
        assert await coordinator.wait(1, 0.01) == (False, None)
        await coordinator.answer(attempt, 0, 1, [[-1.0]])
        assert await coordinator.wait(1, 1) == (True, [[-1.0]])

    asyncio.run(asyncio.wait_for(story(), 30))
