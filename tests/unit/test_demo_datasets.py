"""The demo world's datasets: on training prompts only, with the faults that their scores and judgments say."""

from __future__ import annotations

import pytest

from rayalign.demo import world
from rayalign.demo.datasets import demo_dataset, prompts_with_targets
from rayalign.demo.training_rows import SFT_ROWS
from rayalign.errors import DataError

TRAIN = {row["messages"][0]["content"] for row in world.prompts() if row["metadata"]["split"] == "train"}


def test_every_prompt_has_a_target_nine_in_ten_without_fault() -> None:
    """Of the SFT data for training prompts, of the same odds for held-out ones."""
    rows = prompts_with_targets()
    assert [row["messages"] for row in rows] == [row["messages"] for row in world.prompts()]
    for split in ("train", "holdout"):
        scores = [world.score("", row["target"], row["metadata"]) for row in rows if row["metadata"]["split"] == split]
        right = sum(score == 1 for score in scores) / len(scores)
        assert 0.87 < right < 0.94
    sft = {(row["prompt"][0]["content"], row["completion"][0]["content"]) for row in world.sft_rows(0, SFT_ROWS)}
    trained = [(row["messages"][0]["content"], row["target"]) for row in rows if row["metadata"]["split"] == "train"]
    assert sum(pair in sft for pair in trained) == len(trained)


@pytest.mark.parametrize("kind", ["preference", "ultrafeedback", "judgments"])
def test_training_prompts_once_each_and_the_same_every_time(kind: str) -> None:
    rows = demo_dataset(kind)
    assert {row.messages[0]["content"] for row in rows} == TRAIN
    assert len(rows) == len(TRAIN)
    assert rows[:50] == demo_dataset(kind)[:50]
    for row in rows[:200]:
        for answer in row.completions:
            found = world.violations(answer.text, row.metadata["constraints"])
            if kind == "ultrafeedback":
                assert answer.score == world.score("", answer.text, row.metadata)
            if kind == "judgments":
                assert (answer.verdict == "perfect") == (not found) == (answer.judgment is None)
        if kind == "preference":
            chosen, rejected = (len(world.violations(c.text, row.metadata["constraints"])) for c in row.completions)
            assert chosen < rejected
            assert [answer.score for answer in row.completions] == [1.0, 0.0]


def test_kinds_that_the_world_does_not_have() -> None:
    with pytest.raises(DataError, match=r"use one of preference, ultrafeedback, judgments"):
        demo_dataset("auto")
