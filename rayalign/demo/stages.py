"""The demo world as data and untrained models for `rayalign sft` and `rayalign reward-model`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rayalign.data.dataset import Completion, DatasetRow
from rayalign.demo import models, reward_model, world


def sft_dataset(seed: int, n: int | None) -> list[DatasetRow]:
    """`n` answers, half of them flawed, in the order of a curriculum; by default as many as the demo policy learns."""
    n = n or _rows_of(models.TRAINING)
    return [DatasetRow(row["prompt"], [], row["completion"][0]["content"]) for row in world.sft_rows(seed, n)]


def pair_dataset(seed: int, n: int | None, split: str = "train") -> list[DatasetRow]:
    """`n` preference pairs on prompts of `split`; by default as many as the demo reward model learns."""
    rows = []
    n = n or _rows_of(reward_model.TRAINING)
    for row in reward_model.pairs(seed, n, split):
        (*messages, chosen), rejected = row["chosen"], row["rejected"][-1]
        sides = [Completion(chosen["content"], 1.0), Completion(rejected["content"], 0.0)]
        rows.append(DatasetRow(messages, sides))
    return rows


def _rows_of(training: dict[str, Any]) -> int:
    return training["max_steps"] * training["per_device_train_batch_size"]


def write_untrained(folder: Path, seed: int, *, rewards: bool) -> None:
    """Write the demo policy (or reward model) as it is before any training, with its tokenizer."""
    tokenizer = models.build_tokenizer()
    model = _untrained_reward_model(tokenizer, seed) if rewards else models._build_model(tokenizer, seed)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _untrained_reward_model(tokenizer: Any, seed: int) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    ids = {f"{name}_id": getattr(tokenizer, f"{name}_id") for name in models.SPECIAL_TOKENS}
    torch.manual_seed(seed)
    return LlamaForSequenceClassification(LlamaConfig(vocab_size=len(tokenizer), **reward_model.MODEL, **ids))
