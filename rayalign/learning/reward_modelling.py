"""Reward modelling with TRL's RewardTrainer: one label, -log sigmoid(chosen - rejected)."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerBase

from rayalign.learning.stage_training import ModelKind, StageJob, fit, save_result, stage_arguments, trainer_parts

KIND = ModelKind(AutoModelForSequenceClassification, {"num_labels": 1}, "SEQ_CLS")


def train_reward_model(job: StageJob, tokenizer: PreTrainedTokenizerBase, out: Path) -> dict[str, object]:
    """Train on the job's pairs (`chosen_ids`, `rejected_ids`) and write the result below `out` (rank 0).

    A base without such a head gets a new one, which depends on the seed alone.

    Returns:
        steps and curve.
    """
    import torch
    from trl.trainer.reward_config import RewardConfig
    from trl.trainer.reward_trainer import RewardTrainer

    center = job.config.training.center_rewards or None
    torch.manual_seed(job.config.run.seed)
    trainer = RewardTrainer(
        args=RewardConfig(**stage_arguments(job), center_rewards_coefficient=center),
        **trainer_parts(KIND, job, tokenizer),
    )
    facts = fit(trainer, job)
    save_result(trainer, tokenizer, KIND, job, out)
    return facts
