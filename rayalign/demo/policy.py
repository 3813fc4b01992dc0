"""Make the demo policy once: a small Llama that speaks the demo world and obeys it about half of the time.

It is trained as `rayalign sft` trains, without Ray around it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rayalign.demo.cache import LANGUAGE, LIBRARIES, STAGES, CachedModel, Report, child_main
from rayalign.demo.training_rows import MAX_TOKENS, SFT_ROWS, demo_job, sft_dataset

TRAINING: dict[str, Any] = {
    "batch": 32,
    "learning_rate": 2e-3,
    "schedule": {"type": "cosine", "warmup": 0.0625},
    "adam_beta2": 0.99,
    "order": "source",  # the rows are a curriculum
}
HELD_OUT = 256
_MODEL = CachedModel(
    "rayalign.demo.policy",
    "policy",
    SFT_ROWS // TRAINING["batch"],
    sources=(*LANGUAGE, *STAGES, "rayalign.learning.sft"),
    libraries=(*LIBRARIES, "trl", "accelerate"),
)


def demo_policy(cache: Path | None = None, seed: int = 0, threads: int = 2) -> Path:
    """Return the folder of the demo policy, training it first if no process has done so before.

    Args:
        cache: folder of cached models; by default `$RAYALIGN_CACHE`, else `~/.cache/rayalign`.
        seed: of the world's phrasings, the model's initial weights and the order of training.
        threads: CPU threads for training.

    Raises:
        ModelError: the training process failed; its last words are in the message.
    """
    return _MODEL.folder(cache, seed, threads)


def _fit(scratch: Path, seed: int, threads: int, report: Report) -> None:
    from rayalign.data.stage_rows import answer_rows
    from rayalign.learning.sft import train_sft
    from rayalign.rendering.renderer import ChatRenderer
    from rayalign.rendering.template import UNDATED

    job, tokenizer = demo_job(scratch, seed, threads, TRAINING, report, rewards=False)
    renderer = ChatRenderer(tokenizer, "auto", UNDATED)
    held_out = answer_rows(sft_dataset(seed + 1, HELD_OUT), renderer, MAX_TOKENS).rows
    train_sft(job, held_out, tokenizer, scratch)


if __name__ == "__main__":
    child_main(_fit)
