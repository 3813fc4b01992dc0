"""The learner: one Ray Train run for the whole alignment run, behind the `Learner` protocol."""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Sequence
from typing import TypeVar

import ray
from ray import ObjectRef
from ray.actor import ActorProxy
from ray.exceptions import RayActorError
from ray.train import FailureConfig, RunConfig as TrainRunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from rayalign.actors.coordinator import Answer, Coordinator, Failed, LogpsWork, Task, TurnWork, UpdateWork, Work
from rayalign.actors.handles import end, fetch, our_error, reason
from rayalign.actors.learner_loop import WorkerSetup, train_loop
from rayalign.actors.model_source import ModelSource
from rayalign.actors.process import runtime_env
from rayalign.actors.rendezvous import GroupConfig
from rayalign.actors.seats import check_kept
from rayalign.config.run import RunConfig
from rayalign.errors import ActorFailedError, StageTimeoutError
from rayalign.records import AdapterFiles, Groups, JsonObject, TokenSequence, UpdateResult, Which
from rayalign.stopping import asked
from rayalign.store.files import Place
from rayalign.store.folder import Folder

T = TypeVar("T")

log = logging.getLogger(__name__)

MAX_WORKER_FAILURES = 3
POLL_S = 2.0


class RayLearner:
    """Submits tasks to the coordinator and watches `TorchTrainer.fit()`, which runs in a thread.

    Args:
        root: the run folder; group files are read below it.
        storage: folder, local or on an object store, for Ray Train's own bookkeeping.
    """

    def __init__(
        self,
        model: ModelSource,
        config: RunConfig,
        root: Place,
        storage: Place,
        log_folder: str,
        *,
        cpus: float,
        threads: int = 1,
        label_selector: dict[str, str] | None = None,
    ) -> None:
        self._config = config
        self._root = Folder(root)
        filesystem, storage_path = Folder(storage).filesystem_and_path()
        self._ids = itertools.count(1)
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        # The run is lost with the driver's node in any case, so the coordinator depends on no other.
        self._coordinator: ActorProxy[Coordinator] = (
            ray.remote(Coordinator).options(num_cpus=0, max_concurrency=64, scheduling_strategy=here).remote()
        )
        self._failure: BaseException | None = None
        self._stopping = False
        self._workers: list[JsonObject] = []
        """The first ones, as they described themselves."""
        gpus = config.cluster.learner.gpus
        trainer = TorchTrainer(
            train_loop,
            train_loop_config={"setup": WorkerSetup(config.to_dict(), model, log_folder, self._coordinator)},
            scaling_config=ScalingConfig(
                num_workers=config.training.workers,
                use_gpu=gpus > 0,
                resources_per_worker={"CPU": cpus, **({"GPU": gpus} if gpus else {})},
                label_selector=label_selector,
            ),
            torch_config=GroupConfig(backend="nccl" if gpus else "gloo"),
            run_config=TrainRunConfig(
                name="learner",
                storage_path=storage_path,
                storage_filesystem=None if Folder(storage).is_local else filesystem,
                failure_config=FailureConfig(max_failures=MAX_WORKER_FAILURES),
                worker_runtime_env=runtime_env(threads, gpu=gpus > 0),
            ),
        )
        self._thread = threading.Thread(target=self._fit, args=(trainer,), daemon=True, name="ray-train")
        self._thread.start()

    def ready(self) -> list[JsonObject]:
        """Wait for the first worker group; returns its workers' descriptions."""
        timeout_s = self._config.limits.start_timeout_s
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            self._raise_if_ended()
            workers = _told(self._coordinator.ready.remote(POLL_S))
            if isinstance(workers, Failed):
                raise workers.error
            if workers is not None:
                self._workers = self._workers or workers
                return workers
        raise StageTimeoutError(
            f"the learner was not ready in {timeout_s:g} s",
            "its workers found no place on the cluster, or the model takes longer to load",
            "see logs/learner-0.log and `ray status`, or raise limits.start_timeout_s",
        )

    def progress(self) -> float:
        return ray.get(self._coordinator.progress.remote(), timeout=POLL_S)

    def update(
        self,
        round_index: int,
        groups: Groups,
        parent: AdapterFiles | None,
        sampler: AdapterFiles | None,
        rate: float = 1.0,
    ) -> UpdateResult:
        spread = groups.stats.get("reward_spread")
        result = self._run("update", UpdateWork(round_index, self._root, groups.files, parent, sampler, spread, rate))
        assert isinstance(result, UpdateResult)
        return result

    def logps(
        self,
        sequences: Sequence[TokenSequence],
        which: Which,
        current: AdapterFiles | None,
        round_start: AdapterFiles | None = None,
    ) -> list[list[float]]:
        logps = self._run("logps", LogpsWork(sequences, which, current, round_start))
        assert isinstance(logps, list)
        return logps

    def take(self) -> None:
        """Let the workers move to their devices; for work they also do so by themselves."""
        self._run("take", TurnWork(takes=True))
        if self._config.cluster.shares_gpus:
            check_kept(self._workers, self.ready())

    def leave(self) -> None:
        """Let the workers leave their devices to others; those that are restarted meanwhile keep off them."""
        self._run("leave", TurnWork(takes=False))

    def close(self) -> None:
        """Let the workers end their loops and wait for `fit()` to return; at a stop they end with the process."""
        self._stopping = True
        if asked():
            return
        with contextlib.suppress(RayActorError):  # then it is gone already, and the workers' loops end with it
            ray.get(self._coordinator.stop.remote())
        self._thread.join(timeout=30)
        end(self._coordinator)

    def _run(self, what: str, work: Work) -> Answer:
        """Rank 0's answer; `what` names the work in messages."""
        task, timeout_s = Task(next(self._ids), work), self._config.limits.update_timeout_s
        _told(self._coordinator.submit.remote(task))
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            self._raise_if_ended()
            done, answer = _told(self._coordinator.wait.remote(task.id, POLL_S))
            if done:
                if isinstance(answer, Failed):
                    raise answer.error
                return answer
        raise StageTimeoutError(
            f"learner.{what} took longer than {timeout_s:g} s",
            "a worker hangs, or the round is too large for the limit",
            "see logs/learner-0.log, or raise limits.update_timeout_s; the run can be resumed",
        )

    def _fit(self, trainer: TorchTrainer) -> None:
        for lost in itertools.count(1):
            try:
                trainer.fit()
            except BaseException as error:
                # Ray Train's controller died, and its workers with it: the coordinator gives others the task again.
                may_go_on = lost <= MAX_WORKER_FAILURES and not (self._stopping or asked())
                if may_go_on and isinstance(error, RayActorError):
                    log.warning("Ray Train's controller died and is started again: %s", reason(error))
                    continue
                self._failure = error
            return

    def _raise_if_ended(self) -> None:
        if self._thread.is_alive() or self._stopping:
            return
        if self._failure is not None and (ours := our_error(self._failure)):
            raise ours from self._failure
        said = "fit() returned" if self._failure is None else str(self._failure).strip().splitlines()[-1]
        raise ActorFailedError(
            f"the learner ended while the run goes on: {said}",
            f"its workers failed more than {MAX_WORKER_FAILURES} times, or could not start",
            "see logs/learner-0.log; the run can be resumed",
        ) from self._failure


def _told(told: ObjectRef[T]) -> T:
    """What the coordinator says.

    Raises:
        ActorFailedError: it is gone.
    """
    try:
        return fetch(told)
    except RayActorError as error:
        raise ActorFailedError(
            f"the learner's coordinator is gone: {reason(error)}",
            "its process was killed, or the machine ran out of memory",
            "the run can be resumed",
        ) from error
