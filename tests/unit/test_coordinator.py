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


def test_a_new_attempt_gets_only_what_is_not_finished() -> None:
    """Its first rank asks before the driver submits the next task, its second after: both get the same."""

    async def story() -> None:
        coordinator = Coordinator()
        attempt = await coordinator.begin_attempt(2)
        await coordinator.submit(Task(1, LogpsWork([], "base", None, None)))
        for rank in (0, 1):
            await coordinator.answer(attempt, rank, 1, [[-1.0]] if rank == 0 else None)
        again = await coordinator.begin_attempt(2)
        # What the driver has not fetched yet is not lost with the attempt that made it.
        assert await coordinator.wait(1, 1) == (True, [[-1.0]])
        early = asyncio.create_task(coordinator.next_task(again, 0))
        await asyncio.sleep(0)
        assert not early.done()
        following = Task(2, LogpsWork([], "base", None, None))
        await coordinator.submit(following)
        assert await early == following == await coordinator.next_task(again, 0)
        assert await coordinator.next_task(attempt, 1) is None

    asyncio.run(asyncio.wait_for(story(), 30))


def test_an_unfinished_task_is_done_by_the_next_attempt_alone() -> None:
    async def story() -> None:
        coordinator = Coordinator()
        attempt = await coordinator.begin_attempt(2)
        task = Task(1, LogpsWork([], "base", None, None))
        await coordinator.submit(task)
        await coordinator.answer(attempt, 0, 1, [[-1.0]])
        again = await coordinator.begin_attempt(2)
        await coordinator.answer(attempt, 1, 1, None)
        assert await coordinator.wait(1, 0.01) == (False, None)
        assert await coordinator.next_task(again, 0) == task
        await coordinator.answer(again, 1, 1, None)
        await coordinator.answer(again, 0, 1, [[-2.0]])
        assert await coordinator.wait(1, 1) == (True, [[-2.0]])

    asyncio.run(asyncio.wait_for(story(), 30))
