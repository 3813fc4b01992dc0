"""Reward modelling with TRL's RewardTrainer: one label, -log sigmoid(chosen - rejected)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerBase

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

KIND = ModelKind(AutoModelForSequenceClassification, {"num_labels": 1})


def train_reward_model(job: StageJob, tokenizer: PreTrainedTokenizerBase, out: Path) -> dict[str, Any]:
    """Train on the job's pairs (`chosen_ids`, `rejected_ids`) and write the result below `out` (rank 0).

    A base without such a head gets a new one, which depends on the seed alone.

    Returns:
        steps and curve.
    """
    import torch
    from trl.trainer.reward_config import RewardConfig
    from trl.trainer.reward_trainer import RewardTrainer

    section, training = job.config.model, job.config.training
    torch.manual_seed(job.config.run.seed)
    trainer = RewardTrainer(
        model=load_base(KIND, job),
        args=RewardConfig(**stage_arguments(job), center_rewards_coefficient=training.center_rewards or None),
        train_dataset=ordered_dataset(job),
        processing_class=tokenizer,
        peft_config=None if section.full else lora_config(section.lora, "SEQ_CLS"),
        callbacks=[Watch(job)],
    )
    facts = fit(trainer, job)
    if trainer.is_world_process_zero():
        save_result(trainer, tokenizer, KIND, job, out)
    return facts
