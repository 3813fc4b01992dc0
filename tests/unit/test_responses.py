"""A dataset's rows as responses: merged by prompt, tokenised once, dropped with a count, scored as the dataset says."""

from __future__ import annotations

from array import array
from typing import Any

import pytest

from rayalign.data.dataset import Completion, DatasetRow
from rayalign.data.responses import Answer, CompletionTokens, Responses
from rayalign.demo.language import build_tokenizer
from rayalign.errors import DataError, ModelError
from rayalign.records import FROM_DATASET, Prompt, prompt_id
from tests.renderers import answer_ids, renderer

TOKENIZER = build_tokenizer()


def asked(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def responses(rows: list[DatasetRow], max_tokens: int = 50) -> tuple[list[Prompt], Responses, list[tuple[str, int]]]:
    tokens, made = CompletionTokens(renderer(TOKENIZER), max_tokens), Responses("dataset:test")
    prompts = [Prompt(prompt_id(row.messages), row.messages, [1], row.target) for row in rows]
    made.add((p.id, tokens.answers(p.id, p.messages, r.completions)) for p, r in zip(prompts, rows, strict=True))
    there = {key.decode() for key in made.ids().tolist()}
    return [prompt for prompt in prompts if prompt.id in there], made, tokens.too_long


def test_rows_of_one_prompt_are_added_to_each_other() -> None:
    """Two rows of "a" and one of "b": responses 0..2 of "a" in the dataset's order."""
    rows = [
        DatasetRow(asked("a"), [Completion("cat"), Completion("dog")]),
        DatasetRow(asked("b"), [Completion("fox")]),
        DatasetRow(asked("a"), [Completion("goat")]),
    ]
    (a, b, _), made, _ = responses(rows)
    assert [[row.sample.text for row in made.rows(p)] for p in (a, b)] == [["cat", "dog", "goat"], ["fox"]]
    assert [row.sample.index for row in made.rows(a)] == [0, 1, 2]
    assert (made.count(a), made.count(b), len(made)) == (3, 1, 4)


def test_responses_are_whole_answers_of_the_text_alone() -> None:
    (prompt,), made, _ = responses([DatasetRow(asked("a"), [Completion("cat, dog. done", 0.5)])])
    ((row,),) = [made.rows(prompt)]
    assert row.sample.token_ids == [*TOKENIZER("cat, dog. done")["input_ids"], TOKENIZER.eos_token_id]
    assert TOKENIZER.decode(row.sample.token_ids, skip_special_tokens=True) == row.sample.text == "cat, dog. done"
    assert (row.sample.finish_reason, row.sample.adapter_version, row.sample.logprobs) == ("stop", FROM_DATASET, [])


def test_too_long_responses_are_counted_and_never_cut() -> None:
    """ "cat" is one token and its EOS; of three words with their separators 6 tokens. Indices stay without gaps."""
    long = answer_ids("cat, dog, fox.", TOKENIZER)
    rows = [
        DatasetRow(asked("a"), [Completion("cat, dog, fox.", 1.0), Completion("cat", 0.0), Completion("dog", 0.5)]),
        DatasetRow(asked("b"), [Completion("cat, dog, fox.")]),
    ]
    (prompt,), made, too_long = responses(rows, max_tokens=len(long) - 1)
    assert [(row.sample.index, row.sample.text, row.reward) for row in made.rows(prompt)] == [
        (0, "cat", 0.0),
        (1, "dog", 0.5),
    ]
    assert [tokens for _, tokens in too_long] == [len(long)] * 2
    assert len(responses(rows, max_tokens=len(long))[1]) == 4


def test_scores_judgments_and_nothing() -> None:
    given = [Completion("cat", 0.25), Completion("dog", judgment="Not three.", verdict="flawed"), Completion("fox")]
    (prompt,), made, _ = responses([DatasetRow(asked("a"), given)])
    rows = made.rows(prompt)
    assert [row.reward for row in rows] == [0.25, None, None]
    (scored, judged, bare) = (row.scores[0] for row in rows)
    assert (scored.scorer, scored.status, scored.reward) == ("dataset:test", "ok", 0.25)
    assert (judged.status, judged.judgment, judged.verdict, judged.reward) == ("ok", "Not three.", "flawed", None)
    assert (bare.status, bare.reward) == ("abstain", None)
    assert made.verdicts == {"flawed": 1}


@pytest.mark.parametrize(
    "other", [Completion("cat"), Completion("dog", 1.0), Completion("dog", judgment="x", verdict="flawed")]
)
def test_the_version_is_the_contents(other: Completion) -> None:
    def version(*completions: Completion) -> str:
        return responses([DatasetRow(asked("a"), list(completions))])[1].version

    assert version(Completion("dog")) == version(Completion("dog"))
    assert version(Completion("dog")) != version(other)


def test_revisions_of_the_dataset() -> None:
    """Named as `JudgedStreams.revision_prompts` names them; a response without one gets none."""
    given = [Completion("cat"), Completion("dog", judgment="x", verdict="flawed", revision="fox")]
    (prompt,), made, _ = responses([DatasetRow(asked("a"), given)])
    assert made.revises
    assert made.revision_rows(Prompt(f"abc-{prompt.id}-0", [], [])) == []
    (row,) = made.revision_rows(Prompt(f"abc-{prompt.id}-1", [], []))
    assert (row.sample.prompt_id, row.sample.text) == (f"abc-{prompt.id}-1", "fox")
    assert row.sample.token_ids == answer_ids("fox", TOKENIZER)


@pytest.mark.parametrize(
    ("need", "completions", "target", "learns"),
    [
        ("rewards", [Completion("cat", 1.0)], None, False),
        ("rewards", [Completion("cat", 1.0), Completion("dog", 0.0)], None, True),
        ("judgments", [Completion("cat", 1.0)], None, False),
        ("judgments", [Completion("cat", verdict="perfect")], None, True),
        ("targets", [Completion("cat")], None, False),
        ("targets", [Completion("cat")], "fox", True),
        ("revisions", [Completion("cat")], None, True),
    ],
)
def test_data_that_the_objective_cannot_learn_from(need: str, completions: Any, target: Any, learns: bool) -> None:
    """The model itself can write revisions."""
    _, made, _ = responses([DatasetRow(asked("a"), completions, target)])
    if learns:
        made.check({need}, "file.json", targets=target is not None)
    else:
        with pytest.raises(DataError, match=f"file.json has no {need}"):
            made.check({need}, "file.json", targets=target is not None)


@pytest.mark.parametrize(
    "text", ["", "\x00 and more", "a lone \ud83c surrogate", "🍏", "مرحبا", "' OR 1=1 --", "x" * 1_000_000]
)
def test_any_text_comes_back(text: str) -> None:
    """And any token id of four bytes."""
    answer = Answer(Completion(text, 0.1 + 0.2, text, "flawed", text), array("i", [3, 2**31 - 1]), array("i", [7]))
    made = Responses("d")
    made.add([("p", [answer])])
    assert made._answers("p") == [answer]
    (row,) = made.rows(Prompt("p", [], []))
    assert (row.sample.text, row.sample.token_ids, row.reward) == (text, [3, 2**31 - 1], 0.1 + 0.2)
    assert len(made.version) == 16


def test_a_tokenizer_without_an_end_is_refused() -> None:
    tokenizer = build_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(ModelError, match="no EOS"):
        answer_ids("cat", tokenizer)
