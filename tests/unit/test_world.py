"""The demo world: the split holds, answers carry exactly the flaws they were given, the rule survives any text."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from rayalign.demo import world

CONSTRAINTS = {"count": 3, "category": "fruits", "order": "alphabetical", "separator": "comma", "ending": "done"}
METADATA = {"world": "demo", "split": "train", "constraints": CONSTRAINTS}
ROOT = Path(world.__file__).parents[2]


def _texts(split: str, seed: int = 0) -> list[str]:
    return [row["messages"][0]["content"] for row in world.prompts(seed) if row["metadata"]["split"] == split]


def test_enough_distinct_prompts():
    train, holdout = _texts("train"), _texts("holdout")
    assert len(set(train)) == len(train) >= 1_500
    assert len(set(holdout)) == len(holdout) >= 600
    assert not set(train) & set(holdout)


def test_a_combination_is_wholly_held_out_whatever_the_seed():
    seen = {"train": set(), "holdout": set()}
    for seed in (0, 1):
        for row in world.prompts(seed):
            seen[row["metadata"]["split"]].add(json.dumps(row["metadata"]["constraints"], sort_keys=True))
    assert not seen["train"] & seen["holdout"]
    assert not set(_texts("train", 0)) & set(_texts("holdout", 1))


def test_every_single_value_is_seen_in_training():
    for kind in world.KINDS:
        values = {split: {row[kind] for row in world.combinations(split)} for split in ("train", "holdout")}
        assert values["holdout"] <= values["train"]


def test_a_text_has_one_meaning():
    meaning = {}
    for seed in range(3):
        for row in world.prompts(seed):
            text, constraints = row["messages"][0]["content"], row["metadata"]["constraints"]
            assert meaning.setdefault(text, constraints) == constraints


def test_words_belong_to_one_category_and_need_no_parsing():
    assert len(set(world.WORDS)) == len(world.WORDS) == 32
    assert all(word.isascii() and word.isalpha() and word.islower() for word in world.WORDS)


@pytest.mark.parametrize("split", ["train", "holdout"])
def test_good_answers_are_perfect(split):
    rng = random.Random(0)
    for constraints in world.combinations(split):
        text, metadata = world.answer(constraints, rng), {"constraints": constraints}
        assert world.score("", text, metadata) == 1.0
        assert world.judge("", text, metadata) == world.PERFECT


@pytest.mark.parametrize(
    ("response", "sentence"),
    [
        ("apple, lemon. done", "There are 2 items, not 3."),
        ("apple, dog, lemon. done", "Not fruits: dog."),
        ("lemon, apple, plum. done", "The items are not in alphabetical order."),
        ("apple; lemon; plum. done", "The items are not separated by commas."),
        ("apple, lemon, plum!", "The list does not end with done."),
        ("apple, lemon, plum", "The list does not end with done."),
    ],
)
def test_one_violation_costs_one_fifth_and_has_one_sentence(response, sentence):
    assert world.score("", response, METADATA) == pytest.approx(0.8)
    assert world.judge("", response, METADATA) == sentence


def test_junk_is_never_perfect():
    # "apple" and "lemon" are lost to the junk around them, so count goes too: 2 of 6.
    assert world.judge("", "apple, lemon, plum plum. done", METADATA) == (
        "There are 2 items, not 3. There is text that does not belong to the list."
    )
    assert world.score("", "apple, lemon, plum plum. done", METADATA) == pytest.approx(4 / 6)
    for junk in ("Sure: apple, lemon, plum. done", "apple, lemon, Plum. done", "apple, lemon, plum, zzz. done"):
        assert "does not belong" in world.judge("", junk, METADATA)
        assert world.score("", junk, METADATA) < 1.0


def test_an_order_that_was_not_asked_for_is_not_scored():
    free = {"constraints": {**CONSTRAINTS, "order": "any"}}
    assert world.score("", "plum, apple, lemon. done", free) == 1.0
    assert world.score("", "plum, apple, lemon!", free) == pytest.approx(0.75)
    with pytest.raises(ValueError, match="do not apply"):
        world.answer(free["constraints"], random.Random(0), ("order",))


@pytest.mark.parametrize("kind", world.KINDS)
def test_a_requested_flaw_is_the_only_one(kind):
    rng = random.Random(0)
    for constraints in world.combinations("train"):
        if kind != "order" or constraints["order"] != "any":
            assert set(world.violations(world.answer(constraints, rng, (kind,)), constraints)) == {kind}


@pytest.mark.parametrize("flaws", [0, 1, 2, 3, 4])
def test_as_many_flaws_as_requested(flaws):
    rng = random.Random(flaws)
    for constraints in world.combinations("holdout"):
        text = world.answer(constraints, rng, flaws)
        asked = len(world.KINDS) - (constraints["order"] == "any")
        assert len(world.violations(text, constraints)) == flaws
        assert world.score("", text, {"constraints": constraints}) == pytest.approx(1 - flaws / asked)


@pytest.mark.parametrize(
    "response",
    [
        *("", " ", "\n\n", "!", ". done", ", , ,", "\x00", "\ud800", "🍏, 🍋", "{text}", "%s" * 50, "<|eos|>"),
        *("apple" * 200_000, "apple, " * 200_000, " and " * 9, "apple, lemon, plum\u202e. done", "done. done. done"),
    ],
    ids=lambda text: repr(text[:12]),
)
def test_any_text_gets_a_score_and_a_judgment(response):
    assert 0.0 <= world.score("", response, METADATA) < 1.0
    judgment = world.judge("", response, METADATA)
    assert judgment != world.PERFECT
    assert len(judgment) < 400


def test_empty_scores_nothing():
    assert world.score("", "", METADATA) == 0.0


def test_judged_prompt_keeps_braces():
    text, judgment = "Name {judgment} {text} {0}", "Not {text}: {x}."
    assert world.judged_prompt(text, judgment) == f"{text}\nJudgment: {judgment}"


def test_sft_rows_use_training_prompts_only_and_their_judgments_are_true():
    rows, training = world.sft_rows(0, 3_000), set(_texts("train"))
    constraints = {row["messages"][0]["content"]: row["metadata"] for row in world.prompts(0)}
    judged = flawed = 0
    for row in rows:
        text, _, judgment = row["prompt"][0]["content"].partition("\nJudgment: ")
        assert text in training
        truth = world.judge(text, row["completion"][0]["content"], constraints[text])
        assert judgment in ("", truth)
        judged += judgment != ""
        flawed += truth != world.PERFECT
    assert 0.2 < judged / len(rows) < 0.3
    assert 0.28 < flawed / len(rows) < 0.5
    late = rows[len(rows) // 2 :]
    wrong = sum(
        world.score("", row["completion"][0]["content"], constraints[row["prompt"][0]["content"].split("\n")[0]]) < 1
        for row in late
    )
    assert 0.45 < wrong / len(late) < 0.55


def test_the_same_in_every_process():
    code = (
        "import hashlib, json; from rayalign.demo import world;"
        "print(hashlib.sha256(json.dumps([world.prompts(3), world.sft_rows(3, 300)]).encode()).hexdigest())"
    )
    here = hashlib.sha256(json.dumps([world.prompts(3), world.sft_rows(3, 300)]).encode()).hexdigest()
    for hash_seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == here
    assert world.prompts(3) != world.prompts(4)


def test_importing_the_world_loads_nothing_heavy():
    code = "import sys, rayalign.demo.world; print(sorted({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True).stdout.strip() == "[]"
