"""The demo reward model, made for real: quickly, honest on held-out pairs, and the backend's first user."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from rayalign.config.rewards import RewardModelScoring
from rayalign.demo import world
from rayalign.demo.reward_model import accuracy, demo_reward_model
from rayalign.records import Prompt, Sample
from rayalign.scoring.models.reward_model import RewardModelScorer, check_reward_model

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture(scope="module")
def folder() -> Path:
    return demo_reward_model()


def test_it_orders_held_out_pairs(folder: Path) -> None:
    assert accuracy(folder) >= 0.75


def test_it_is_made_once(folder: Path) -> None:
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert demo_reward_model() == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == before


def test_it_prefers_a_right_answer_to_noise(folder: Path) -> None:
    check_reward_model(folder)
    scorer = RewardModelScorer(RewardModelScoring(type="reward_model", model="demo"), folder, "sha")
    row = next(row for row in world.prompts() if row["metadata"]["constraints"]["count"] == 3)
    right = world.answer(row["metadata"]["constraints"], random.Random(0))
    prompt = Prompt("p", row["messages"], [1])
    texts = [right, "apple"]
    good, bad = scorer.score([prompt] * 2, [Sample("p", i, t, [1], [0.0], "stop", 0, 0) for i, t in enumerate(texts)])
    assert good.reward is not None and bad.reward is not None
    assert good.reward > bad.reward
