"""The demo encoder, made for real: similarity to a right answer says something of an answer's quality."""

from __future__ import annotations

from pathlib import Path

import pytest

from rayalign.demo.encoder import demo_encoder, judged_answers, quality
from rayalign.scoring.models.encoder import Encoder, check_encoder

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture(scope="module")
def folder() -> Path:
    return demo_encoder()


def test_it_orders_answers_to_held_out_prompts_much_as_the_rule_does(folder: Path) -> None:
    assert quality(folder)["pair_accuracy"] >= 0.8
    assert quality(folder)["rank_correlation"] >= 0.6


def test_it_is_made_once(folder: Path) -> None:
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert demo_encoder() == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == before


def test_it_is_used_as_it_was_trained(folder: Path) -> None:
    check_encoder(folder, "cls")
    target, texts, rewards = judged_answers(1, 1, 6)[0]
    target_D, *vectors = Encoder(folder).embed([target, *texts])
    best = max(range(len(texts)), key=lambda i: float(vectors[i] @ target_D))
    assert rewards[best] > sum(rewards) / len(rewards)
