"""The demo reward model's data: pairs whose better answer really is better, on the right prompts."""

from __future__ import annotations

from rayalign.demo import world
from rayalign.demo.reward_model import TRAINING, _batched, pairs

CONSTRAINTS = {row["messages"][0]["content"]: row["metadata"] for row in world.prompts(0)}


def test_the_chosen_answer_has_fewer_flaws_and_the_prompt_is_the_same() -> None:
    for row in pairs(0, 300):
        (question, better), (same, worse) = row["chosen"], row["rejected"]
        assert question == same and question["role"] == "user"
        constraints = CONSTRAINTS[question["content"]]["constraints"]
        flaws = [len(world.violations(answer["content"], constraints)) for answer in (better, worse)]
        assert flaws[0] < flaws[1]


def test_held_out_pairs_are_on_held_out_prompts() -> None:
    for split in ("train", "holdout"):
        assert {CONSTRAINTS[row["chosen"][0]["content"]]["split"] for row in pairs(0, 50, split)} == {split}


def test_pairs_are_a_function_of_the_seed() -> None:
    assert pairs(1, 20) == pairs(1, 20)
    assert pairs(1, 20) != pairs(2, 20)


def test_batches_keep_every_pair_and_have_similar_lengths() -> None:
    size = TRAINING["per_device_train_batch_size"]
    rows = [{"chosen_ids": [i] * (i % 7 + 1), "rejected_ids": [i] * (i % 3 + 1)} for i in range(size * 7)]
    ordered = _batched(rows, 0)
    assert sorted(map(str, ordered)) == sorted(map(str, rows))
    for place in range(0, len(ordered), size):
        lengths = [max(len(r["chosen_ids"]), len(r["rejected_ids"])) for r in ordered[place : place + size]]
        assert max(lengths) - min(lengths) <= 1
    assert ordered != rows
