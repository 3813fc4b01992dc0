"""Supervised fine-tuning with TRL's SFTTrainer: the answer's tokens are learned, the prompt's are not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from rayalign.learning.stage_training import ModelKind, StageJob, fit, save_result, stage_arguments, trainer_parts

KIND = ModelKind(AutoModelForCausalLM, {}, "CAUSAL_LM")


def train_sft(
    job: StageJob, holdout: Sequence[dict[str, list[int]]], tokenizer: PreTrainedTokenizerBase, out: Path
) -> dict[str, object]:
    """Train on the job's rows (`input_ids`, `labels`) and write the result below `out` (rank 0).

    Returns:
        steps, curve, and of the held-out rows `loss` (nats per answer token) and `token_accuracy`.
    """
    from datasets import Dataset
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    arguments = SFTConfig(
        **stage_arguments(job),
        per_device_eval_batch_size=16,
        # Tokens and labels are made; TRL would tokenise, truncate and drop here.
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    trainer = SFTTrainer(
        args=arguments,
        eval_dataset=Dataset.from_list(list(holdout)),
        **trainer_parts(KIND, job, tokenizer),
    )
    facts = fit(trainer, job)
    measured = trainer.evaluate()
    save_result(trainer, tokenizer, KIND, job, out)
    return {**facts, "loss": measured["eval_loss"], "token_accuracy": measured.get("eval_mean_token_accuracy")}
