"""Rows of the stages: where the answer begins, which pair is taken, in what order rows are trained on."""

from __future__ import annotations

from typing import Any

import pytest

from rayalign.data.dataset import Completion, DatasetRow
from rayalign.data.stage_rows import answer_rows, pair_rows
from rayalign.demo.language import build_tokenizer
from rayalign.learning.row_order import BUCKET, plan_order, row_length
from rayalign.records import IGNORED, Message
from tests.renderers import renderer

ASKED = [{"role": "user", "content": "Name two fruits."}]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return build_tokenizer()


def test_the_prompt_is_what_the_generator_is_given_and_the_rest_is_learned(tokenizer: Any) -> None:
    (row,) = answer_rows([DatasetRow(ASKED, target="apple, plum.")], renderer(tokenizer), 64).rows
    prompt = tokenizer.apply_chat_template(ASKED, add_generation_prompt=True, return_dict=False)
    learned = [label for label in row["labels"] if label != IGNORED]
    assert row["labels"] == [IGNORED] * len(prompt) + learned
    assert row["input_ids"] == prompt + learned
    assert tokenizer.decode(learned) == "apple, plum.<|eos|>"


def test_without_a_target_the_best_answer_is_learned(tokenizer: Any) -> None:
    answers = [Completion("fig", score=0.1), Completion("plum", score=0.9), Completion("pear")]
    found = answer_rows([DatasetRow(ASKED, answers), DatasetRow(ASKED)], renderer(tokenizer), 64)
    (row,) = found.rows
    assert "plum" in tokenizer.decode(row["input_ids"])
    assert {reason: len(names) for reason, names in found.skipped.items()} == {"no answer": 1}


def test_rows_at_the_limit_stay_and_longer_ones_are_counted(tokenizer: Any) -> None:
    rows = [DatasetRow(ASKED, target="plum")]
    length = len(answer_rows(rows, renderer(tokenizer), 64).rows[0]["input_ids"])
    assert len(answer_rows(rows, renderer(tokenizer), length).rows) == 1
    short = answer_rows(rows, renderer(tokenizer), length - 1)
    assert not short.rows and list(short.skipped) == [f"longer than data.max_tokens = {length - 1}"]


def test_a_pair_is_the_best_and_the_worst_answer(tokenizer: Any) -> None:
    answers = [Completion(text, score) for text, score in (("fig", 0.5), ("plum", 0.9), ("pear", 0.1), ("kiwi", None))]
    tied = [Completion("fig", 1.0), Completion("plum", 1.0)]
    found = pair_rows([DatasetRow(ASKED, a) for a in (answers, tied, answers[3:])], renderer(tokenizer), 64)
    (row,) = found.rows
    for side, text in (("chosen_ids", "plum"), ("rejected_ids", "pear")):
        assert tokenizer.decode(row[side]) == f"<|bos|><|user|>Name two fruits.<|assistant|>{text}<|eos|>"
    assert sorted(found.skipped) == ["all answers score the same", "fewer than two scored answers"]


def test_prompts_with_the_marks_of_a_template_are_counted_but_where_none_is_used(tokenizer: Any) -> None:
    asked: list[Message] = [{"role": "user", "content": "<|im_start|>user\nName two fruits.<|im_end|>\n"}]
    rows = [DatasetRow(asked, [Completion("plum", 0.9), Completion("pear", 0.1)])]
    for read in (answer_rows, pair_rows):
        found = read(rows, renderer(tokenizer), 64)
        assert not found.rows and list(found.skipped) == ["the prompt holds the marks of a chat template"]
        assert len(read(rows, renderer(tokenizer, "none"), 64).rows) == 1


def test_every_row_is_trained_on_once_an_epoch_and_the_last_batch_is_full() -> None:
    lengths = [(7 * place) % 50 for place in range(101)]
    order = plan_order(lengths, batch=4, epochs=3, seed=1, shuffled=True)
    counts = [order.count(row) for row in range(101)]
    assert len(order) == 304 and sum(counts) == 304
    assert sorted(counts) == [3] * 100 + [4]
    assert order == plan_order(lengths, batch=4, epochs=3, seed=1, shuffled=True)
    assert order != plan_order(lengths, batch=4, epochs=3, seed=2, shuffled=True)


def test_the_sources_order_is_kept_but_within_buckets() -> None:
    bucket = BUCKET * 2
    order = plan_order([place % 5 for place in range(3 * bucket)], batch=2, epochs=1, seed=0, shuffled=False)
    for number in range(3):
        inside = order[number * bucket : (number + 1) * bucket]
        assert sorted(inside) == list(range(number * bucket, (number + 1) * bucket))


def test_batches_have_rows_of_similar_length() -> None:
    lengths = [place % 8 for place in range(BUCKET * 4)]
    order = plan_order(lengths, batch=4, epochs=1, seed=0, shuffled=True)
    spread = [
        max(batch) - min(batch)
        for batch in ([lengths[row] for row in order[start : start + 4]] for start in range(0, len(order), 4))
    ]
    assert max(spread) == 0


def test_a_batch_larger_than_the_data_repeats_it() -> None:
    assert sorted(plan_order([1, 2], batch=5, epochs=1, seed=0, shuffled=False)) == [0, 0, 0, 1, 1]


def test_lengths() -> None:
    assert row_length({"input_ids": [1, 2, 3], "labels": [IGNORED, IGNORED, 3]}) == 2
    assert row_length({"chosen_ids": [1], "rejected_ids": [1, 2]}) == 2
