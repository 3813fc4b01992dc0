"""What the driver hears of a learner that cannot start; the coordinator without Ray."""

from __future__ import annotations

import asyncio

import torch

from rayalign.actors.coordinator import Coordinator, Failed, LogpsWork, Task
from rayalign.config.training import TrainingSection
from rayalign.errors import ModelError
from rayalign.learning.memory import halved, is_out_of_memory, too_large


def test_an_error_before_the_first_task_is_told_at_once() -> None:
    """One rank of two has announced itself; the other never will, and no attempt after it."""

    async def story() -> None:
        coordinator = Coordinator()
        attempt, _ = await coordinator.begin_attempt(2)
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
        attempt, _ = await coordinator.begin_attempt(1)
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
        attempt, _ = await coordinator.begin_attempt(2)
        await coordinator.submit(Task(1, LogpsWork([], "base", None, None)))
        for rank in (0, 1):
            await coordinator.answer(attempt, rank, 1, [[-1.0]] if rank == 0 else None)
        again, _ = await coordinator.begin_attempt(2)
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
        attempt, _ = await coordinator.begin_attempt(2)
        task = Task(1, LogpsWork([], "base", None, None))
        await coordinator.submit(task)
        await coordinator.answer(attempt, 0, 1, [[-1.0]])
        again, _ = await coordinator.begin_attempt(2)
        await coordinator.answer(attempt, 1, 1, None)
        assert await coordinator.wait(1, 0.01) == (False, None)
        assert await coordinator.next_task(again, 0) == task
        await coordinator.answer(again, 1, 1, None)
        await coordinator.answer(again, 0, 1, [[-2.0]])
        assert await coordinator.wait(1, 1) == (True, [[-2.0]])

    asyncio.run(asyncio.wait_for(story(), 30))


def test_the_budget_is_halved_twice_and_once_for_each_attempt() -> None:
    """All ranks of an attempt may say that they ran out of memory; the attempt after it tells how often."""

    async def talk() -> list[int]:
        coordinator = Coordinator()
        seen = []
        for _ in range(3):
            attempt, halvings = await coordinator.begin_attempt(2)
            seen.append(halvings)
            left = halvings < 2
            assert [await coordinator.halve(attempt) for _ in range(2)] == [left, left]
            assert await coordinator.halve(attempt - 1)
        return seen

    assert asyncio.run(talk()) == [0, 1, 2]


def test_what_is_out_of_memory_and_what_the_budget_then_is() -> None:
    for error in (
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried to "),
        MemoryError(),
    ):
        assert is_out_of_memory(error)
        told = too_large(TrainingSection(tokens_per_micro_batch=100), error)
        assert "100 tokens" in told.found and told.exit_code == 3 and "gradient_checkpointing" in told.remedy
    assert not is_out_of_memory(RuntimeError("shape mismatch"))
    training = TrainingSection(tokens_per_micro_batch=5)
    assert [halved(training, n).tokens_per_micro_batch for n in range(4)] == [5, 2, 1, 1]
