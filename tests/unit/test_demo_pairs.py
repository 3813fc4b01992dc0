"""The demo reward model's data: pairs whose better answer really is better, on the right prompts."""

from __future__ import annotations

from rayalign.demo import world
from rayalign.demo.training_rows import pair_dataset

CONSTRAINTS = {row["messages"][0]["content"]: row["metadata"] for row in world.prompts(0)}


def test_the_chosen_answer_has_fewer_flaws() -> None:
    for row in pair_dataset(0, 300):
        better, worse = row.completions
        assert (better.score, worse.score) == (1.0, 0.0)
        constraints = CONSTRAINTS[row.messages[0]["content"]]["constraints"]
        flaws = [len(world.violations(answer.text, constraints)) for answer in (better, worse)]
        assert flaws[0] < flaws[1]


def test_held_out_pairs_are_on_held_out_prompts() -> None:
    for split in ("train", "holdout"):
        rows = pair_dataset(0, 50, split)
        assert {CONSTRAINTS[row.messages[0]["content"]]["split"] for row in rows} == {split}


def test_pairs_are_a_function_of_the_seed() -> None:
    assert pair_dataset(1, 20) == pair_dataset(1, 20)
    assert pair_dataset(1, 20) != pair_dataset(2, 20)
