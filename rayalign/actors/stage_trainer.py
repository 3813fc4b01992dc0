"""A training stage by Ray Train: TRL's trainer in each worker, resumed from the last whole checkpoint.

driver ── rows, config ──► TorchTrainer ── step, result, error ──► Board ──► driver
                               └──────── checkpoints, model ─────► stage folder
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import ray
import ray.train
from ray.actor import ActorProxy
from ray.train import FailureConfig, RunConfig as TrainRunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from rayalign.actors.cluster import Cluster
from rayalign.actors.handles import fetch, our_error
from rayalign.actors.model_source import ModelSource, local_folder
from rayalign.actors.process import check_torch, redirect_output, runtime_env, use_own_gpu
from rayalign.actors.rendezvous import GroupConfig
from rayalign.config.rewards import RewardModelScoring
from rayalign.config.stages import StageConfig, StageKind
from rayalign.errors import ActorFailedError, PlacementError, RayalignError, StageTimeoutError
from rayalign.records import JsonObject
from rayalign.store.stage_dir import StageDir

MAX_WORKER_FAILURES = 3
POLL_S = 0.5


class Board:
    """A small actor, on which the workers write how far they are and the driver reads it."""

    def __init__(self) -> None:
        self._step = 0
        self._result: dict[str, object] | None = None
        self._error: Exception | None = None

    @ray.method
    def at(self, step: int) -> None:
        self._step = step

    @ray.method
    def done(self, result: dict[str, object]) -> None:
        self._result = result

    @ray.method
    def failed(self, error: Exception) -> None:
        self._error = error

    @ray.method
    def read(self) -> tuple[int, dict[str, object] | None, Exception | None]:
        return self._step, self._result, self._error


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """What every worker is started with."""

    kind: StageKind
    config: JsonObject
    root: str
    """The stage's folder."""
    base: ModelSource
    log_folder: str
    board: ActorProxy[Board]


class StageTrainer:
    """One stage's training, in workers of its own.

    Raises:
        PlacementError: the cluster cannot hold the workers.
    """

    def __init__(
        self, kind: StageKind, config: StageConfig, stage: StageDir, base: Path, cluster: Cluster, logs: Path
    ) -> None:
        _check_placement(config, cluster)
        self._kind, self._config, self._logs = kind, config, logs
        self._board: ActorProxy[Board] = ray.remote(Board).options(num_cpus=0).remote()
        self._failure: BaseException | None = None
        training = config.training
        source = ModelSource.of(base, cluster)
        setup = WorkerSetup(kind, config.to_dict(), str(stage.root), source, str(logs), self._board)
        trainer = TorchTrainer(
            train_loop,
            train_loop_config={"setup": setup},
            scaling_config=ScalingConfig(
                num_workers=training.workers,
                use_gpu=training.gpus > 0,
                resources_per_worker={"CPU": training.threads, **({"GPU": training.gpus} if training.gpus else {})},
            ),
            torch_config=GroupConfig(backend="nccl" if training.gpus else "gloo"),
            run_config=TrainRunConfig(
                name=kind,
                storage_path=str(stage.root / "logs" / "ray_train"),
                failure_config=FailureConfig(max_failures=MAX_WORKER_FAILURES),
                worker_runtime_env=runtime_env(training.threads, gpu=training.gpus > 0),
            ),
        )
        self._thread = threading.Thread(target=self._fit, args=(trainer,), daemon=True, name="ray-train")
        self._thread.start()

    def wait(self, advance: Callable[[int], None]) -> dict[str, object]:
        """What the training found, once it is done.

        Args:
            advance: called with the number of steps made since the last call.

        Raises:
            ActorFailedError: the workers failed too often.
            StageTimeoutError: no step for `limits.start_timeout_s`.
        """
        limit, seen, moved = self._config.limits.start_timeout_s, 0, time.monotonic()
        while True:
            alive = self._thread.is_alive()
            step, result, error = fetch(self._board.read.remote())
            if error is not None:
                raise error
            if step > seen:
                advance(step - seen)
                seen, moved = step, time.monotonic()
            if not alive and result is not None:
                return result
            if not alive:
                raise self._ended()
            if time.monotonic() - moved > limit:
                raise StageTimeoutError(
                    f"{self._kind}: no step in {limit:g} s",
                    "its workers found no place on the cluster, or one of them hangs",
                    f"see {self._log()}, or raise limits.start_timeout_s; the same command resumes it",
                )
            self._thread.join(timeout=POLL_S)

    def _ended(self) -> RayalignError:
        if self._failure is not None and (ours := our_error(self._failure)):
            return ours
        reason = (str(self._failure or "fit() returned").strip() or type(self._failure).__name__).splitlines()[-1]
        return ActorFailedError(
            f"{self._kind}: training ended before its last step: {reason}",
            f"its workers failed more than {MAX_WORKER_FAILURES} times, or could not start",
            f"see {self._log()}; the same command resumes it",
        )

    def _log(self) -> Path:
        return self._logs / f"{self._kind}-0.log"

    def _fit(self, trainer: TorchTrainer) -> None:
        try:
            trainer.fit()
        except BaseException as error:
            self._failure = error


def _check_placement(config: StageConfig, cluster: Cluster) -> None:
    training = config.training
    largest = max((node.cpus for node in cluster.nodes), default=0)
    for key, needed, there in (
        ("training.threads", training.threads, largest),
        ("training.workers x threads", training.workers * training.threads, cluster.cpus),
        ("training.workers x gpus", training.workers * training.gpus, cluster.gpus),
    ):
        if needed > there and not cluster.grows:
            raise PlacementError(f"{key} is {needed}", f"the cluster has {there:g}", "lower it, or add nodes")


def train_loop(arguments: dict[str, WorkerSetup]) -> None:
    """Entry point of every worker."""
    setup = arguments["setup"]
    kind, board = setup.kind, setup.board
    rank = ray.train.get_context().get_world_rank()
    redirect_output(setup.log_folder, f"{kind}-{rank}")
    use_own_gpu()
    config, stage = StageConfig.model_validate(setup.config), StageDir(Path(setup.root))
    try:
        facts = train_rank(kind, config, stage, local_folder(setup.base), rank, board.at.remote)
    except (RayalignError, ValueError) as error:
        # Repeating it would fail again.
        ray.get(board.failed.remote(error))
        raise
    if rank == 0:
        ray.get(board.done.remote(facts))


def train_rank(
    kind: StageKind, config: StageConfig, stage: StageDir, base: Path, rank: int, on_step: Callable[[int], object]
) -> dict[str, object]:
    """One worker's part of a stage; the result is in the stage's folder when rank 0 returns."""
    import torch

    from rayalign.learning.folders import load_tokenizer
    from rayalign.learning.reward_modelling import train_reward_model
    from rayalign.learning.sft import train_sft
    from rayalign.learning.stage_training import StageJob

    check_torch(config.training.gpus, "training.gpus")
    torch.set_num_threads(config.training.threads)
    if rank == 0:
        stage.clear_result()
    tokenizer = load_tokenizer(base)
    rows, holdout = (pq.read_table(stage.rows(part)).to_pylist() for part in ("train", "holdout"))
    job = StageJob(config, base, rows, stage.checkpoints, on_step, stage.commit_checkpoint, stage.latest_checkpoint())
    if kind == "sft":
        return train_sft(job, holdout, tokenizer, stage.root)
    facts = train_reward_model(job, tokenizer, stage.root)
    if rank == 0 and config.model.makes_model:
        facts["accuracy"] = _accuracy(config, stage, holdout)
    return facts


def _accuracy(config: StageConfig, stage: StageDir, holdout: list[dict[str, list[int]]]) -> float:
    """Share of held-out pairs in the right order, by the scorer that the rounds use."""
    from rayalign.scoring.models.reward_model import RewardModelScorer
    from rayalign.scoring.models.text_model import plan_batches

    folder = stage.root / "model"
    section = RewardModelScoring(type="reward_model", model=str(folder), dtype=config.model.dtype)
    scorer = RewardModelScorer(section, folder, "", "cuda" if config.training.gpus else "cpu")
    rows = [row[side] for side in ("chosen_ids", "rejected_ids") for row in holdout]
    rewards = [0.0] * len(rows)
    for places in plan_batches([len(row) for row in rows], section.tokens_per_batch):
        for place, value in zip(places, scorer.forward([rows[place] for place in places]), strict=True):
            rewards[place] = value
    chosen, rejected = rewards[: len(holdout)], rewards[len(holdout) :]
    return sum(better > worse for better, worse in zip(chosen, rejected, strict=True)) / len(holdout)
