"""What runs in each Ray Train worker: tasks from the coordinator, done by this rank's `LearnerWorker`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import ray
import ray.train
from ray.actor import ActorProxy

from rayalign.actors.coordinator import Answer, Coordinator, Failed, Task
from rayalign.actors.model_source import ModelSource, local_folder
from rayalign.actors.process import describe_process, redirect_output, use_own_gpu
from rayalign.config.run import RunConfig
from rayalign.errors import RayalignError
from rayalign.records import JsonObject

if TYPE_CHECKING:
    from rayalign.actors.learner_worker import LearnerWorker
    from rayalign.learning.shares import Note

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """What every worker is started with."""

    config: JsonObject
    model: ModelSource
    log_folder: str
    coordinator: ActorProxy[Coordinator]


def train_loop(arguments: dict[str, WorkerSetup]) -> None:
    """Entry point of every worker of an attempt.

    The driver and Ray Train's controller import this module too, and have no use for what a worker computes with.
    """
    import torch.distributed as dist

    from rayalign.actors.learner_worker import LearnerWorker

    setup = arguments["setup"]
    config, coordinator = RunConfig.model_validate(setup.config), setup.coordinator
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    redirect_output(setup.log_folder, f"learner-{rank}")
    use_own_gpu()
    # One rank begins the attempt and tells the others its number, so that all of them answer under the same one.
    begun = [ray.get(coordinator.begin_attempt.remote(world)) if rank == 0 else (0, 0)]
    dist.broadcast_object_list(begun, src=0)
    [(attempt, halvings)] = begun
    try:
        worker = LearnerWorker(config, local_folder(setup.model), rank, world, halvings)
    except RayalignError as error:
        log.exception("this worker cannot start")
        ray.get(coordinator.cannot_start.remote(Failed(error)))
        return
    # After loading: a group that is announced must be able to take work.
    ray.get(coordinator.announce.remote(attempt, rank, describe_process(f"learner-{rank}")))

    def note(share: float) -> None:
        if rank == 0:
            coordinator.note.remote(attempt, share)

    last = 0
    while (task := ray.get(coordinator.next_task.remote(attempt, last))) is not None:
        answer = _answer(worker, task, note, lambda: ray.get(coordinator.halve.remote(attempt)))
        # One rank's result is enough; a failure is told by whichever rank has it.
        told = answer if rank == 0 or isinstance(answer, Failed) else None
        ray.get(coordinator.answer.remote(attempt, rank, task.id, told))
        last = task.id


def _answer(worker: LearnerWorker, task: Task, note: Note, halve: Callable[[], bool]) -> Answer:
    """What a rank's worker makes of a task, or why it fails.

    Args:
        halve: asks whether an attempt with less memory may follow.

    Raises:
        RuntimeError: this attempt fails: out of memory, or what is no error of the task's.
    """
    from rayalign.learning.memory import is_out_of_memory, too_large

    try:
        return worker.do(task.work, note)
    except (RayalignError, ValueError) as error:
        log.exception("task %s failed", task.id)
        return Failed(error)
    except (MemoryError, RuntimeError) as error:
        # Where another attempt may follow: the others may wait for this rank inside a collective, so all start anew.
        if not is_out_of_memory(error) or halve():
            raise
        return Failed(too_large(worker.training, error))
