"""The policy under DeepSpeed ZeRO: engines for updates, and whole parameters where they are read or replaced.

Stages 1 and 2 keep whole parameters on every rank, so an engine is needed only for an update. Stage 3 keeps a part of
each parameter on each rank, the base's from loading on, and brings them together while a module runs, which is the
engine's doing: there one is always open, and a new one follows every change of weights from outside (it copies them
when it starts).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from rayalign.config.training import TrainingSection
from rayalign.learning.model import Policy, make_optimizer

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine


class ZeroShards:
    """DeepSpeed's parts of parameters, stage 3 (`learning.sharded.Sharding`)."""

    def __init__(self, training: TrainingSection) -> None:
        self._settings = zero_settings(training)
        self._first: Any = None
        """The first parameter, whose methods convert the others."""
        self.reads = dist.get_rank() == 0

    def shard(self, parameter: torch.nn.Parameter) -> None:
        if self._first is not None:
            self._first.convert_to_zero_parameters(param_list=[parameter])
            return
        _deepspeed().zero.Init(module=torch.nn.ParameterList([parameter]), config_dict_or_path=self._settings)
        self._first = parameter

    def gather(self, parameters: Sequence[torch.nn.Parameter]) -> AbstractContextManager[object]:
        return gathered(parameters)


class ZeroPolicy:
    """Owns the DeepSpeed engine over a policy. Every method is called on all ranks together."""

    def __init__(self, policy: Policy, training: TrainingSection) -> None:
        self._policy = policy
        self._training = training
        self._sharded = training.zero_stage == 3
        self._engine: DeepSpeedEngine | None = None

    @contextmanager
    def updating(self) -> Iterator[tuple[DeepSpeedEngine, torch.optim.Optimizer]]:
        """(engine, optimizer), with fresh optimizer state; however the update ends, nothing of it stays."""
        # First of all: two engines at once would both hook into the policy's gradients.
        self._close()
        engine, optimizer = self._open()
        self._engine = engine
        try:
            yield engine, optimizer
        finally:
            if not self._sharded:
                self._close()

    @contextmanager
    def whole(self, *, write: bool = False) -> Iterator[None]:
        """The adapter's parameters whole on every rank; with `write`, what stands in them at the end stays."""
        # An engine copies the weights when it starts and would go on from its copy.
        if write:
            self._close()
        with gathered(self._policy.trainable(), write=write):
            yield

    def ready_to_score(self) -> None:
        """Make the forward pass possible outside an update."""
        if self._sharded and self._engine is None:
            self._engine, _ = self._open()

    def _open(self) -> tuple[DeepSpeedEngine, torch.optim.Optimizer]:
        parameters: Any = self._policy.trainable()
        optimizer = make_optimizer(self._training.optimizer, parameters)
        engine, *_ = _deepspeed().initialize(
            model=self._policy, optimizer=optimizer, model_parameters=parameters, config=zero_settings(self._training)
        )
        return engine, optimizer

    def _close(self) -> None:
        if self._engine is not None:
            # An update that was broken off leaves parameters whole, and marked as in use.
            if self._sharded:
                self._engine.empty_partition_cache()
            self._engine.destroy()
            # DeepSpeed leaves these on the policy, and with them the engine, its optimizer and all its buffers.
            for hook in filter(None, (self._engine.module_forward_pre_hook, self._engine.module_forward_post_hook)):
                hook.remove()
            for parameter in self._policy.trainable():
                vars(parameter).pop("_zero_optimizer", None)
            self._engine = None


def zero_settings(training: TrainingSection) -> dict[str, Any]:
    """DeepSpeed's config."""
    keys = {"optimizer": "offload_optimizer", "parameters": "offload_param"}
    offload = {keys[part]: {"device": "cpu"} for part in training.offload}
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": training.max_grad_norm,
        "zero_optimization": {"stage": training.zero_stage, **offload},
        "zero_force_ds_cpu_optimizer": False,
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 10**9,
    }


def gathered(parameters: Sequence[torch.nn.Parameter], *, write: bool = False) -> AbstractContextManager[object]:
    """Context in which parameters are whole of which each rank has a part; with `write`, what stands in them on rank 0
    at the end stays."""
    if not any(hasattr(parameter, "ds_id") for parameter in parameters):
        return nullcontext()
    return _deepspeed().zero.GatheredParameters(list(parameters), modifier_rank=0 if write else None)


def _deepspeed() -> ModuleType:
    import deepspeed

    # Its JIT build needs a compiler and changes no number.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed
