"""Make the demo world's reward model once: a tiny classifier, trained on preference pairs of flawed answers.

It is trained as `rayalign reward-model` trains, without Ray around it. It is honest and imperfect: it learns from pairs
alone, never from the rule, and `pairs.json` in its folder holds its accuracy on pairs of held-out prompts.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rayalign.demo.cache import LANGUAGE, LIBRARIES, STAGES, CachedModel, Report, child_main
from rayalign.demo.training_rows import PAIRS, demo_job, pair_dataset

TRAINING: dict[str, Any] = {
    "batch": 16,
    "learning_rate": 2e-3,
    "schedule": {"type": "cosine", "warmup": 0.1},
    "adam_beta2": 0.99,
    "center_rewards": 0.01,  # keeps the rewards of different prompts on one scale
}
_MODEL = CachedModel(
    "rayalign.demo.reward_model",
    "reward model",
    PAIRS // TRAINING["batch"],
    sources=(*LANGUAGE, *STAGES, "rayalign.learning.reward_modelling"),
    libraries=(*LIBRARIES, "trl", "accelerate"),
)
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


def _fit(scratch: Path, seed: int, threads: int, report: Report) -> None:
    from rayalign.learning.reward_modelling import train_reward_model

    job, tokenizer = demo_job(scratch, seed, threads, TRAINING, report, rewards=True)
    train_reward_model(job, tokenizer, scratch)
    right = _held_out_accuracy(scratch / "model", seed)
    (scratch / "model" / ACCURACY_FILE).write_text(json.dumps({"accuracy": right, "pairs": HELD_OUT_PAIRS}))


def _held_out_accuracy(folder: Path, seed: int) -> float:
    """Share of held-out pairs in the right order, measured the way answers are scored."""
    from rayalign.config.rewards import RewardModelScoring
    from rayalign.records import Prompt, Sample
    from rayalign.scoring.models.reward_model import RewardModelScorer

    scorer = RewardModelScorer(RewardModelScoring(type="reward_model", model=str(folder)), folder, "")
    rows = pair_dataset(seed, HELD_OUT_PAIRS, "holdout")
    prompts = [Prompt(str(i), row.messages, []) for i, row in enumerate(rows)]
    rewards = []
    for side in (0, 1):
        texts = [row.completions[side].text for row in rows]
        samples = [Sample(str(i), 0, text, [], [], "stop", 0, 0) for i, text in enumerate(texts)]
        rewards.append([score.reward or 0.0 for score in scorer.score(prompts, samples)])
    return sum(better > worse for better, worse in zip(*rewards, strict=True)) / len(rows)


if __name__ == "__main__":
    child_main(_fit)
