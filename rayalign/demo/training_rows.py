"""The demo world as data for `rayalign sft` and `rayalign reward-model`, and what its own models are trained on."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayalign.data.dataset import Completion, DatasetRow
from rayalign.demo import world
from rayalign.demo.cache import Report
from rayalign.demo.language import write_untrained

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from rayalign.learning.stage_training import StageJob

SFT_ROWS, PAIRS = 51_200, 35_200
"""What the demo policy and the demo reward model learn from."""
MAX_TOKENS = 256


def sft_dataset(seed: int, n: int | None) -> list[DatasetRow]:
    """`n` answers, half of them flawed, in the order of a curriculum; by default as many as the demo policy learns."""
    return [
        DatasetRow(row["prompt"], [], row["completion"][0]["content"]) for row in world.sft_rows(seed, n or SFT_ROWS)
    ]


def pair_dataset(seed: int, n: int | None, split: str = "train") -> list[DatasetRow]:
    """`n` preference pairs on prompts of `split`; by default as many as the demo reward model learns.

    The rejected answer has more flaws. Answers with flaws on both sides teach more than right against wrong: a policy's
    answers differ in how wrong they are. Training pairs are as alike as can be, the rejected one being the chosen one
    with something more made wrong, as an editor would write them: each then teaches its flaw, and no chance difference.
    Held-out pairs are two answers written apart, with flaws of kinds of their own.
    """
    rng = random.Random(f"demo pairs {split} {seed}")
    asked = [row for row in world.prompts(seed) if row["metadata"]["split"] == split]
    rows = []
    for _ in range(n or PAIRS):
        row = rng.choice(asked)
        constraints = row["metadata"]["constraints"]
        better = rng.choices((0, 1, 2), weights=(6, 3, 1))[0]
        worse = better + rng.choices((1, 2), weights=(3, 1))[0]
        if split == "train":
            chosen, rejected = _edited(constraints, rng, better, worse)
        else:
            chosen, rejected = (world.answer(constraints, rng, flaws) for flaws in (better, worse))
        rows.append(DatasetRow(row["messages"], [Completion(chosen, 1.0), Completion(rejected, 0.0)]))
    return rows


def _edited(constraints: world.Constraints, rng: random.Random, better: int, worse: int) -> tuple[str, str]:
    kinds = [kind for kind in world.KINDS if kind != "order" or constraints["order"] != "any"]
    wrong = rng.sample(kinds, worse)
    draft = rng.random()  # both are drafted from the same seed
    chosen, rejected = (
        world.answer(constraints, random.Random(draft), tuple(wrong[:flaws])) for flaws in (better, worse)
    )
    return chosen, rejected


def demo_job(
    scratch: Path, seed: int, threads: int, training: dict[str, Any], report: Report, *, rewards: bool
) -> tuple[StageJob, PreTrainedTokenizerBase]:
    """(the training of a demo model from random weights, its tokenizer).

    Args:
        training: `training` of the stage's config.
    """
    from rayalign.config.stages import StageConfig
    from rayalign.data.stage_rows import answer_rows, pair_rows
    from rayalign.learning.folders import load_tokenizer
    from rayalign.learning.stage_training import StageJob
    from rayalign.rendering.renderer import ChatRenderer
    from rayalign.rendering.template import UNDATED

    base = scratch / "base"
    write_untrained(base, seed, rewards=rewards)
    tokenizer = load_tokenizer(base)
    renderer = ChatRenderer(tokenizer, "auto", UNDATED)
    config = StageConfig.model_validate(
        {
            "run": {"seed": seed},
            "model": {"base": "demo_untrained", "full": True},
            "data": {"source": "demo", "max_tokens": MAX_TOKENS},
            "training": {"threads": threads, **training},
        }
    )
    if rewards:
        rows = pair_rows(pair_dataset(seed, None), renderer, MAX_TOKENS).rows
    else:
        rows = answer_rows(sft_dataset(seed, None), renderer, MAX_TOKENS).rows
    return StageJob(config, base, rows, scratch / "checkpoints", report, lambda folder: None), tokenizer
