"""Make the demo world's reward model once: a tiny classifier, trained with TRL on preference pairs of flawed answers.

Like the demo policy it is cached, and trained in a child process. It is honest and imperfect: it learns from pairs
alone, never from the rule, and `pairs.json` in its folder holds its accuracy on pairs of held-out prompts.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

from rayalign.demo import models, world
from rayalign.demo.cache import CachedModel

# Narrower than the policy: more pairs in the same time teach more.
MODEL: dict[str, Any] = {**models.MODEL, "hidden_size": 64, "intermediate_size": 128, "num_labels": 1}
TRAINING: dict[str, Any] = {
    "max_steps": 2_200,
    "per_device_train_batch_size": 16,
    "learning_rate": 2e-3,
    "warmup_steps": 220,
    "lr_scheduler_type": "cosine",
    "optim": "adamw_torch_fused",
    "adam_beta2": 0.99,
    "max_length": None,
    "train_sampling_strategy": "sequential",  # the rows come in batches of similar length
    # Keeps the rewards of different prompts on one scale.
    "center_rewards_coefficient": 0.01,
}
_QUIET: dict[str, Any] = {
    **{"use_cpu": True, "bf16": False, "gradient_checkpointing": False, "dataloader_pin_memory": False},
    **{"disable_tqdm": True, "logging_strategy": "no", "save_strategy": "no", "report_to": []},
}
_LIBRARIES = ("torch", "transformers", "trl", "tokenizers", "accelerate")
_MODEL = CachedModel("rayalign.demo.reward_model", "reward model", _LIBRARIES)
HELD_OUT_PAIRS = 1000
ACCURACY_FILE = "pairs.json"


def demo_reward_model(cache: Path | None = None, seed: int = 0, threads: int = 1) -> Path:
    """Return the folder of the demo reward model, training it first if no process has done so before.

    Raises:
        ModelError: the training process failed; its last words are in the message.
    """
    return _MODEL.folder(cache, seed, threads)


def accuracy(folder: Path) -> float:
    """Share of pairs of held-out prompts that the model in `folder` puts in the right order."""
    return json.loads((folder / ACCURACY_FILE).read_text())["accuracy"]


def pairs(seed: int, n: int, split: str = "train") -> list[dict[str, Any]]:
    """Return `n` preference rows (chosen, rejected as conversations) on prompts of `split`.

    The rejected answer has more flaws. Answers with flaws on both sides teach more than right against wrong: a policy's
    answers differ in how wrong they are. Training pairs are as alike as can be, the rejected one being the chosen one
    with something more made wrong, as an editor would write them: each then teaches its flaw, and no chance difference.
    Held-out pairs are two answers written apart, with flaws of kinds of their own.
    """
    rng = random.Random(f"demo pairs {split} {seed}")
    asked = [row for row in world.prompts(seed) if row["metadata"]["split"] == split]
    rows = []
    for _ in range(n):
        row = rng.choice(asked)
        constraints = row["metadata"]["constraints"]
        better = rng.choices((0, 1, 2), weights=(6, 3, 1))[0]
        worse = better + rng.choices((1, 2), weights=(3, 1))[0]
        if split == "train":
            chosen, rejected = _edited(constraints, rng, better, worse)
        else:
            chosen, rejected = (world.answer(constraints, rng, flaws) for flaws in (better, worse))
        rows.append({"chosen": _chat(row, chosen), "rejected": _chat(row, rejected)})
    return rows


def _edited(constraints: world.Constraints, rng: random.Random, better: int, worse: int) -> tuple[str, str]:
    kinds = [kind for kind in world.KINDS if kind != "order" or constraints["order"] != "any"]
    wrong = rng.sample(kinds, worse)
    draft = rng.random()  # both are drafted from the same seed
    chosen, rejected = (
        world.answer(constraints, random.Random(draft), tuple(wrong[:flaws])) for flaws in (better, worse)
    )
    return chosen, rejected


def _chat(row: dict[str, Any], text: str) -> list[dict[str, str]]:
    return [*row["messages"], {"role": "assistant", "content": text}]


def _fit(scratch: Path, seed: int, threads: int) -> None:
    """Train in this process; save model, tokenizer and accuracy to `scratch`/model."""
    import torch
    from datasets import Dataset, disable_progress_bars
    from transformers import LlamaConfig, LlamaForSequenceClassification
    from trl.trainer.reward_config import RewardConfig
    from trl.trainer.reward_trainer import RewardTrainer

    torch.set_num_threads(threads)
    disable_progress_bars()
    tokenizer = models.build_tokenizer()
    ids = {f"{name}_id": getattr(tokenizer, f"{name}_id") for name in models.SPECIAL_TOKENS}
    torch.manual_seed(seed)
    model = LlamaForSequenceClassification(LlamaConfig(vocab_size=len(tokenizer), **MODEL, **ids))
    config = RewardConfig(output_dir=str(scratch / "trainer"), seed=seed, **TRAINING, **_QUIET)
    rows = Dataset.from_list(_batched(_tokenized(tokenizer, seed), seed))
    trainer = RewardTrainer(model=model, args=config, train_dataset=rows, processing_class=tokenizer)
    trainer.train()
    model.save_pretrained(scratch / "model")
    tokenizer.save_pretrained(scratch / "model")
    right = _held_out_accuracy(scratch / "model", seed)
    (scratch / "model" / ACCURACY_FILE).write_text(json.dumps({"accuracy": right, "pairs": HELD_OUT_PAIRS}))


def _tokenized(tokenizer: Any, seed: int) -> list[dict[str, list[int]]]:
    """The training pairs as token ids; in one call, since TRL goes row by row."""
    rows = pairs(seed, TRAINING["max_steps"] * TRAINING["per_device_train_batch_size"])
    sides = []
    for side in ("chosen", "rejected"):
        texts = tokenizer.apply_chat_template([row[side] for row in rows], tokenize=False)
        sides.append(tokenizer(texts, add_special_tokens=False)["input_ids"])
    return [{"chosen_ids": chosen, "rejected_ids": rejected} for chosen, rejected in zip(*sides, strict=True)]


def _batched(rows: list[dict[str, list[int]]], seed: int) -> list[dict[str, list[int]]]:
    """Reorder so that each batch has pairs of similar length (half of the padding), the batches in random order."""
    batch = TRAINING["per_device_train_batch_size"]
    rows = sorted(rows, key=lambda row: max(len(row["chosen_ids"]), len(row["rejected_ids"])))
    batches = [rows[place : place + batch] for place in range(0, len(rows), batch)]
    random.Random(seed).shuffle(batches)
    return [row for rows_of_batch in batches for row in rows_of_batch]


def _held_out_accuracy(folder: Path, seed: int) -> float:
    """Share of held-out pairs in the right order, measured the way answers are scored."""
    from rayalign.config_scoring import RewardModelScoring
    from rayalign.records import Prompt, Sample
    from rayalign.scoring.reward_model import RewardModelScorer

    scorer = RewardModelScorer(RewardModelScoring(type="reward_model", model=str(folder)), folder, "")
    rows = pairs(seed, HELD_OUT_PAIRS, "holdout")
    rewards = {}
    for side in ("chosen", "rejected"):
        prompts = [Prompt(str(i), row[side][:-1], []) for i, row in enumerate(rows)]
        texts = [row[side][-1]["content"] for row in rows]
        samples = [Sample(str(i), 0, text, [], [], "stop", 0, 0) for i, text in enumerate(texts)]
        rewards[side] = [score.reward or 0.0 for score in scorer.score(prompts, samples)]
    right = sum(better > worse for better, worse in zip(rewards["chosen"], rewards["rejected"], strict=True))
    return right / len(rows)


def main() -> None:
    """Train as the child of `CachedModel`."""
    _fit(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))


if __name__ == "__main__":
    main()
