"""Supervised fine-tuning with TRL's SFTTrainer: the answer's tokens are learned, the prompt's are not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from rayalign.learning.model import lora_config
from rayalign.learning.stage_training import (
    ModelKind,
    StageJob,
    Watch,
    fit,
    load_base,
    ordered_dataset,
    save_result,
    stage_arguments,
)

KIND = ModelKind(AutoModelForCausalLM, {})


def train_sft(
    job: StageJob, holdout: Sequence[dict[str, list[int]]], tokenizer: PreTrainedTokenizerBase, out: Path
) -> dict[str, Any]:
    """Train on the job's rows (`input_ids`, `labels`) and write the result below `out` (rank 0).

    Returns:
        steps, curve, and of the held-out rows `loss` (nats per answer token) and `token_accuracy`.
    """
    from datasets import Dataset
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    section = job.config.model
    arguments = SFTConfig(
        **stage_arguments(job),
        per_device_eval_batch_size=16,
        # Tokens and labels are made; TRL would tokenise, truncate and drop here.
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    trainer = SFTTrainer(
        model=load_base(KIND, job),
        args=arguments,
        train_dataset=ordered_dataset(job),
        eval_dataset=Dataset.from_list(list(holdout)),
        processing_class=tokenizer,
        peft_config=None if section.full else lora_config(section.lora),
        callbacks=[Watch(job)],
    )
    facts = fit(trainer, job)
    measured = trainer.evaluate()
    if trainer.is_world_process_zero():
        save_result(trainer, tokenizer, KIND, job, out)
    return {**facts, "loss": measured["eval_loss"], "token_accuracy": measured.get("eval_mean_token_accuracy")}
