"""What SFT and reward modelling share: models to train, arguments of TRL's trainers, and what they leave behind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import torch
import torch.distributed as dist
from peft import PeftConfig, PeftModel
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from rayalign.config.stages import StageConfig
from rayalign.errors import GuardError
from rayalign.learning.export import write_template
from rayalign.learning.folders import load_model
from rayalign.learning.model import load_options, lora_config
from rayalign.learning.row_order import plan_order, row_length
from rayalign.rendering.renderer import ChatRenderer
from rayalign.rendering.template import UNDATED

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers.models.auto.auto_factory import _BaseAutoModelClass

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
LOGGED_STEPS = 100
"""About how many points of the loss curve are kept."""


@dataclass(frozen=True, slots=True)
class StageJob:
    """What one worker of a stage trains."""

    config: StageConfig
    base: Path
    rows: Sequence[dict[str, list[int]]]
    scratch: Path
    """The folder that checkpoints go to, the same for all workers."""
    on_step: Callable[[int], object]
    on_checkpoint: Callable[[Path], None]
    """Called on rank 0 when every worker has written its part."""
    resume_from: Path | None = None

    @property
    def steps(self) -> int:
        training = self.config.training
        return -(-len(self.rows) * training.epochs // training.batch)


@dataclass(frozen=True, slots=True)
class ModelKind:
    """How a stage's models are loaded."""

    auto_class: type[_BaseAutoModelClass]
    options: dict[str, object]
    task: str
    """PEFT's name of what such a model does."""


class TrainerParts(TypedDict):
    """What every trainer of TRL is given beside its arguments."""

    model: PreTrainedModel
    train_dataset: Dataset
    processing_class: PreTrainedTokenizerBase
    peft_config: PeftConfig | None
    callbacks: list[TrainerCallback]


class Watch(TrainerCallback):
    """Tells of steps and checkpoints, and stops where the loss is not a number."""

    def __init__(self, job: StageJob) -> None:
        self._job = job

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        if state.is_world_process_zero:
            self._job.on_step(state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: object,
    ) -> None:
        norm = (logs or {}).get("grad_norm", 0.0)
        if norm != norm or norm == float("inf"):
            raise GuardError(
                f"step {state.global_step}: the gradient is not finite ({norm})",
                "the weights would be lost",
                "lower training.learning_rate",
            )

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        if dist.is_initialized():
            dist.barrier()
        if state.is_world_process_zero:
            self._job.on_checkpoint(self._job.scratch / f"checkpoint-{state.global_step}")


def stage_arguments(job: StageJob) -> dict[str, Any]:
    """Settings of TRL's trainers that follow from the config."""
    training, model = job.config.training, job.config.model
    per_worker = training.batch // training.workers
    micro = training.micro_batch or per_worker
    return {
        "output_dir": str(job.scratch),
        "seed": job.config.run.seed,
        "max_steps": job.steps,
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": per_worker // micro,
        "learning_rate": training.learning_rate,
        "lr_scheduler_type": training.schedule.type,
        "warmup_steps": round(training.schedule.warmup * job.steps),
        "max_grad_norm": training.max_grad_norm,
        "weight_decay": training.weight_decay,
        "optim": "adamw_torch_fused",
        "adam_beta2": training.adam_beta2,
        "max_length": None,
        "train_sampling_strategy": "sequential",
        "save_strategy": "steps",
        "save_steps": training.checkpoint_steps,
        # The newest is not committed yet when older ones go.
        "save_total_limit": 2,
        "logging_strategy": "steps",
        "logging_steps": max(1, job.steps // LOGGED_STEPS),
        "logging_nan_inf_filter": False,
        "use_cpu": training.gpus == 0,
        "bf16": model.dtype == "bfloat16",
        "gradient_checkpointing": False,
        "dataloader_pin_memory": training.gpus > 0,
        "ddp_backend": dist.get_backend() if dist.is_initialized() else None,
        "ddp_find_unused_parameters": False,
        "disable_tqdm": True,
        "report_to": [],
    }


def trainer_parts(kind: ModelKind, job: StageJob, tokenizer: PreTrainedTokenizerBase) -> TrainerParts:
    """The model to train with its adapter, the rows in their order, and the callbacks."""
    section = job.config.model
    return {
        "model": load_base(kind, job),
        "train_dataset": ordered_dataset(job),
        "processing_class": tokenizer,
        "peft_config": None if section.full else lora_config(section.lora, kind.task),
        "callbacks": [Watch(job)],
    }


def load_base(kind: ModelKind, job: StageJob) -> PreTrainedModel:
    """The model to train: quantised if the config says so; float32 where all weights are trained."""
    model = job.config.model
    dtype = torch.float32 if model.full else DTYPES[model.dtype]
    device = "cuda" if job.config.training.gpus else "cpu"
    return load_model(kind.auto_class, job.base, **kind.options, **load_options(model.quantization, dtype, device))


def ordered_dataset(job: StageJob) -> Dataset:
    """The job's rows in the order in which they are trained on."""
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    training = job.config.training
    order = plan_order(
        [row_length(row) for row in job.rows],
        batch=training.batch,
        epochs=training.epochs,
        seed=job.config.run.seed,
        shuffled=training.order == "shuffled",
    )
    return Dataset.from_list(list(job.rows)).select(order)


def fit(trainer: Trainer, job: StageJob) -> dict[str, object]:
    """Train to the end, from the last checkpoint if there is one; returns metrics and the loss curve."""
    trainer.train(resume_from_checkpoint=None if job.resume_from is None else str(job.resume_from))
    state = trainer.state
    kept = ("step", "loss", "mean_token_accuracy", "accuracy", "margin", "grad_norm", "learning_rate")
    curve = [{name: row[name] for name in kept if name in row} for row in state.log_history if "loss" in row]
    return {"steps": state.global_step, "curve": curve}


def save_result(
    trainer: Trainer, tokenizer: PreTrainedTokenizerBase, kind: ModelKind, job: StageJob, out: Path
) -> None:
    """Write `adapter/` (LoRA) and `model/` (all weights; with LoRA where the config merges) below `out`, on rank 0.

    The adapter is added to the base as it lies on the disk, not to quantised weights.
    """
    if not trainer.is_world_process_zero():
        return
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    section = job.config.model
    if not section.full:
        model.save_pretrained(out / "adapter")
        _save_tokenizer(tokenizer, kind, job, out / "adapter")
        if not section.merge:
            return
        base = load_model(kind.auto_class, job.base, dtype=torch.float32, **kind.options)
        base.config.pad_token_id = model.config.pad_token_id
        model = PeftModel.from_pretrained(base, str(out / "adapter")).merge_and_unload()
    model.to(DTYPES[section.dtype]).save_pretrained(out / "model")
    _save_tokenizer(tokenizer, kind, job, out / "model")


def _save_tokenizer(tokenizer: PreTrainedTokenizerBase, kind: ModelKind, job: StageJob, folder: Path) -> None:
    """Write the tokenizer; of a model that answers with the chat template that it was trained in."""
    tokenizer.save_pretrained(folder)
    if kind.task == "CAUSAL_LM":
        write_template(folder, ChatRenderer(tokenizer, job.config.data.template, UNDATED))
