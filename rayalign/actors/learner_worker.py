"""What runs in each Ray Train worker: one policy under DeepSpeed for the whole run, tasks from the coordinator."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.dataset as pads
import ray
import ray.train
import torch
import torch.distributed as dist

from rayalign.actors.coordinator import Failed
from rayalign.actors.process import describe_process, redirect_output
from rayalign.config import RunConfig
from rayalign.errors import GuardError, RayalignError
from rayalign.learning.model import build_policy
from rayalign.learning.plan import Step, plan_steps
from rayalign.learning.step import (
    StepContext,
    all_finite,
    empty_loss,
    group_tokens,
    learning_rate,
    micro_batch_loss,
    rows_of,
    token_logps_of,
)
from rayalign.records import ADAPTER_WEIGHTS, TrainingGroup
from rayalign.stages import AdapterFiles, TokenSequence, UpdateResult, Which

log = logging.getLogger(__name__)


def train_loop(arguments: dict[str, Any]) -> None:
    """Entry point of every worker of an attempt."""
    config = RunConfig.model_validate(arguments["config"])
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    redirect_output(arguments["log_folder"], f"learner-{rank}")
    coordinator = arguments["coordinator"]
    attempt = [ray.get(coordinator.begin_attempt.remote(world)) if rank == 0 else None]
    dist.broadcast_object_list(attempt, src=0)
    worker = LearnerWorker(config, Path(arguments["model"]), rank, world)
    ray.get(coordinator.announce.remote(attempt[0], rank, describe_process(f"learner-{rank}")))
    last = 0
    task: Any
    while (task := ray.get(coordinator.next_task.remote(attempt[0], last))) is not None:
        try:
            result = getattr(worker, task.kind)(**task.arguments)
        except (RayalignError, ValueError) as error:
            log.exception("task %s failed", task.id)
            result = Failed(error)
        ray.get(coordinator.answer.remote(attempt[0], rank, task.id, result if rank == 0 or _failed(result) else None))
        last = task.id


def _failed(result: Any) -> bool:
    return isinstance(result, Failed)


class LearnerWorker:
    """One rank. Every task brings the adapter that it starts from, so any attempt can take any task."""

    def __init__(self, config: RunConfig, model: Path, rank: int, world: int) -> None:
        self._config = config
        self._rank, self._world = rank, world
        self._device = "cuda" if config.cluster.learner.gpus > 0 else "cpu"
        torch.manual_seed(config.run.seed)
        self._policy = build_policy(model, config.model, self._device)
        self._base_name = config.model.base
        self._loaded: str | None = None

    def update(self, round_index: int, files: list[str], parent: AdapterFiles | None) -> UpdateResult | None:
        """Train one round on the groups in `files`, from `parent`."""
        started = time.perf_counter()
        self._load(parent)
        torch.manual_seed(self._config.run.seed * 10_007 + round_index)
        training = self._config.training
        data = _GroupFiles(files)
        steps = plan_steps(
            data.tokens, seed=self._config.run.seed, round_index=round_index, epochs=training.epochs,
            group_batch=training.group_batch, tokens_per_micro_batch=training.tokens_per_micro_batch,
            workers=self._world,
        )  # fmt: skip
        groups = data.read(sorted({g for step in steps for batch in step.ranks[self._rank] for g in batch}))
        references = self._references(groups)
        engine, optimizer = self._engine()
        history = []
        self._loaded = None
        for number, step in enumerate(steps):
            rate = learning_rate(training, round_index, number, len(steps))
            for parameter_group in optimizer.param_groups:
                parameter_group["lr"] = rate
            stats = self._step(engine, step, groups, references, round_index)
            history.append({"learning_rate": rate, **stats})
        engine.destroy()
        content = self._policy.adapter_files(self._base_name)
        sha256 = hashlib.sha256(content[ADAPTER_WEIGHTS]).hexdigest()
        self._loaded = sha256
        seconds = time.perf_counter() - started
        metrics = {**_means(history), "steps": float(len(steps)), "seconds": seconds, "tokens": float(sum(data.tokens))}
        return UpdateResult(AdapterFiles(round_index, sha256, content), metrics, history)

    def logps(
        self,
        sequences: Sequence[TokenSequence],
        which: Which,
        current: AdapterFiles | None,
        round_start: AdapterFiles | None,
    ) -> list[list[float]]:
        """Token log-probabilities; every rank computes all of them, which for the few sequences asked is simplest."""
        self._load({"current": current, "round_start": round_start, "base": current}[which])
        rows = [(s.prompt_token_ids, s.response_token_ids) for s in sequences]
        with self._scoring_as("base" if which == "base" else "round_start"):
            return token_logps_of(self._policy, rows, self._device, self._config.training.tokens_per_micro_batch)

    def _load(self, files: AdapterFiles | None) -> None:
        wanted = "base" if files is None else files.sha256
        if wanted == self._loaded:
            return
        if files is None:
            self._policy.reset_adapter(self._config.run.seed)
        else:
            self._policy.load_adapter(files.files)
        self._loaded = wanted

    @contextmanager
    def _scoring_as(self, reference: str) -> Iterator[None]:
        """No dropout; the adapter off for `base`, on as it stands otherwise."""
        self._policy.eval()
        try:
            if reference == "base":
                with self._policy.base_only():
                    yield
            else:
                yield
        finally:
            self._policy.train()

    def _references(self, groups: dict[int, TrainingGroup]) -> dict[int, torch.Tensor]:
        """[K] reference log-probabilities of each group, once per round, before the first step."""
        rows = [row for group in groups.values() for row in rows_of(group)]
        budget = self._config.training.tokens_per_micro_batch
        with self._scoring_as(self._config.objectives[0].reference):
            sums = iter([sum(logps) for logps in token_logps_of(self._policy, rows, self._device, budget)])
        return {i: torch.tensor([next(sums) for _ in group.rewards]) for i, group in groups.items()}

    def _engine(self) -> tuple[Any, torch.optim.Optimizer]:
        """A DeepSpeed engine over the policy with a fresh optimizer."""
        import deepspeed

        # Its JIT build needs a compiler and changes no number.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        training = self._config.training
        parameters: Any = self._policy.trainable()
        optimizer = torch.optim.AdamW(parameters, lr=1.0, weight_decay=0.0)
        settings = {
            "train_micro_batch_size_per_gpu": 1,
            "gradient_accumulation_steps": 1,
            "managed_gradient_accumulation": False,
            "gradient_clipping": training.max_grad_norm,
            "zero_optimization": {"stage": training.zero_stage},
            "zero_force_ds_cpu_optimizer": False,
            "steps_per_print": 10**9,
        }
        engine, *_ = deepspeed.initialize(
            model=self._policy, optimizer=optimizer, model_parameters=parameters, config=settings
        )
        return engine, optimizer

    def _step(
        self,
        engine: Any,
        step: Step,
        groups: dict[int, TrainingGroup],
        references: dict[int, torch.Tensor],
        round_index: int,
    ) -> dict[str, float]:
        context = StepContext(self._config.objectives, round_index, self._device)
        totals: dict[str, float] = {"loss": 0.0}
        for batch in step.ranks[self._rank]:
            if not batch:
                engine.backward(empty_loss(self._policy), scale_wrt_gas=False)
                continue
            losses_G, metrics = micro_batch_loss(
                engine, [groups[g] for g in batch], [references[g] for g in batch], context
            )
            # The engine averages over ranks; times their number, the sum over all groups is left.
            engine.backward(losses_G.sum() * (self._world / step.groups), scale_wrt_gas=False)
            totals["loss"] += float(losses_G.sum().detach()) / step.groups
            for name, value in metrics.items():
                totals[name] = totals.get(name, 0.0) + float(value) * len(batch) / step.groups
        self._check_finite(totals["loss"], round_index)
        engine.step()
        norm = engine.get_global_grad_norm()
        return self._sum_over_ranks(totals) | ({} if norm is None else {"grad_norm": float(norm)})

    def _check_finite(self, loss: float, round_index: int) -> None:
        bad = torch.tensor([0.0 if all_finite(loss, self._policy.trainable()) else 1.0], device=self._device)
        dist.all_reduce(bad)
        if bad.item():
            raise GuardError(
                f"round {round_index}: loss or gradient is not finite on {int(bad.item())} of {self._world} workers",
                "the update was not applied; the adapter of the round before is untouched",
                "lower training.learning_rate or objective.beta, or look at logs/learner-0.log; the run can be resumed",
            )

    def _sum_over_ranks(self, totals: dict[str, float]) -> dict[str, float]:
        if self._world == 1:
            return totals
        gathered: list[dict[str, float] | None] = [None] * self._world
        dist.all_gather_object(gathered, totals)
        names = {name for part in gathered if part for name in part}
        return {name: sum(part.get(name, 0.0) for part in gathered if part) for name in sorted(names)}


class _GroupFiles:
    """The round's Parquet files: lengths of all groups, rows of some."""

    def __init__(self, files: list[str]) -> None:
        self._dataset = pads.dataset(files, format="parquet", schema=TrainingGroup.schema())
        table = self._dataset.to_table(columns=["prompt_token_ids", "response_token_ids"])
        prompts = [len(ids) for ids in table["prompt_token_ids"].to_pylist()]
        responses = [[len(r) for r in row] for row in table["response_token_ids"].to_pylist()]
        self.tokens = [group_tokens(p, r) for p, r in zip(prompts, responses, strict=True)]

    def read(self, positions: list[int]) -> dict[int, TrainingGroup]:
        rows = self._dataset.take(positions).to_pylist()
        return {i: TrainingGroup.from_row(row) for i, row in zip(positions, rows, strict=True)}


def _means(history: list[dict[str, float]]) -> dict[str, float]:
    names = {name for row in history for name in row}
    finite = {name: [row[name] for row in history if name in row and row[name] == row[name]] for name in sorted(names)}
    return {name: sum(values) / len(values) for name, values in finite.items() if values}
