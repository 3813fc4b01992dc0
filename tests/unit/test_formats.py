"""Dataset formats: each as published, odd rows by reason, and what is told from the first rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest

from rayalign.config.base import DatasetFormat
from rayalign.data.dataset import BadRow, Completion, DatasetRow
from rayalign.data.formats import FORMATS, detect, read_record
from rayalign.data.loading import iter_dataset_rows, load_dataset_rows
from rayalign.data.prompts import load_prompt_rows
from rayalign.errors import DataError
from tests.unit.format_cases import CAR, CASES, COD, FISH, HH, Case, assistant, criticised, rated, user

IDS = [f"{case.format}-{place}" for place, case in enumerate(CASES)]
SHARED = Path("/work/shared/data")


def lines(tmp_path: Path, *rows: Any, name: str = "d.jsonl") -> str:
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def read(record: Any, format: str) -> DatasetRow:
    ((_, row),) = read_record(record, "row 1", FORMATS[format])
    assert isinstance(row, DatasetRow), row
    return row


def test_every_format_has_a_case_and_a_config_value() -> None:
    assert {case.format for case in CASES} == set(FORMATS) == set(get_args(DatasetFormat)) - {"auto"}


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_rows_as_published(case: Case) -> None:
    expected = DatasetRow(case.messages, case.completions, case.target, case.metadata)
    assert read(case.row, case.format) == expected


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_the_format_is_told_with_its_reason(case: Case, tmp_path: Path) -> None:
    found = detect([case.row] * 3, "here")
    assert found.format == case.format
    assert found.reason.startswith("3 of the first 3 rows have ")
    loaded = load_dataset_rows(lines(tmp_path, case.row, case.row))
    assert (loaded.format, len(loaded.rows), loaded.duplicates, loaded.skipped) == (case.format, 1, 1, {})


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_every_format_gives_prompts(case: Case, tmp_path: Path) -> None:
    rows = load_prompt_rows(lines(tmp_path, case.row, {**case.row, "more": 1}))
    assert [(row.messages, row.target) for row in rows.rows] == [(case.messages, case.target)] * 2
    assert rows.found.format == case.format


def chat(*turns: dict[str, str]) -> list[dict[str, str]]:
    return [user(FISH), *turns]


NAN = float("nan")
GOOD = {case.format: case.row for case in reversed(CASES)}
LABEL, SCORE = "label is neither true nor false", "score is not a number"
MORE = "chosen and rejected differ in more than the last answer"


@pytest.mark.parametrize(
    ("format", "change", "reason"),
    [
        ("preference", {"chosen": CAR}, "chosen equals rejected"),
        ("preference", {"chosen": None}, "chosen is null"),
        ("preference", {"rejected": " \n"}, "rejected is empty"),
        ("preference", {"chosen": 3}, "chosen and rejected are neither two texts nor two conversations"),
        ("preference", {"chosen": [assistant(COD)]}, "chosen and rejected are neither two texts nor two conversations"),
        ("preference", {"prompt": ""}, "blank prompt"),
        ("preference", {"prompt": 3}, "prompt is not text"),
        ("preference", {"prompt": None}, "no prompt, and chosen and rejected do not begin alike"),
        ("preference", {"chosen": "\ud800"}, "not valid Unicode (half of a surrogate pair)"),
        ("preference", {"chosen": [], "rejected": []}, "chosen is empty"),
        ("preference", {"chosen": ["a"], "rejected": ["b"]}, "chosen is neither text nor a conversation"),
        ("preference", {"chosen": chat(assistant(COD)), "rejected": chat(user("x"))}, MORE),
        ("preference", {"chosen": chat(assistant(COD)), "rejected": chat(assistant(COD))}, "chosen equals rejected"),
        ("hh-rlhf", {"chosen": f"\n\nHuman: Yo\n\nAssistant: {COD}"}, "chosen and rejected answer different dialogues"),
        ("hh-rlhf", {"chosen": COD}, "chosen is no dialogue of Human: and Assistant:"),
        ("hh-rlhf", {"chosen": HH}, "chosen is empty"),
        ("hh-rlhf", {"chosen": "\n\nHuman: Hi", "rejected": "\n\nHuman: Yo"}, "no closing answer"),
        ("unpaired", {"label": "yes"}, LABEL),
        ("unpaired", {"label": 1}, LABEL),
        ("unpaired", {"label": None}, "label is null"),
        ("unpaired", {"completion": ""}, "completion is empty"),
        ("unpaired", {"completion": [user("x")]}, "no closing answer"),
        ("judgments", {"judgment": " "}, "judgment is empty"),
        ("judgments", {"judgment": 3}, "judgment is not text"),
        ("judgments", {"judgment": None, "score": 3}, "no judgment beside a low score"),
        ("judgments", {"score": "7"}, SCORE),
        ("judgments", {"score": NAN}, SCORE),
        ("judgments", {"score": True}, SCORE),
        ("judgments", {"output": None}, "output is null"),
        ("judgments", {"output": ""}, "output is empty"),
        ("shepherd", {"feedback": ""}, "feedback is empty"),
        ("shepherd", {"answer": None}, "answer is null"),
        ("nectar", {"answers": []}, "no answers"),
        ("nectar", {"answers": None}, "answers is null"),
        ("nectar", {"answers": {"answer": COD}}, "answers is not a list"),
        ("nectar", {"answers": [{"answer": COD, "rank": "1"}]}, "rank is not a number"),
        ("ultrafeedback", {"completions": [rated("", 1.0, "")]}, "response is empty"),
        ("ultrafeedback", {"completions": ["x"]}, "an answer is not an object"),
        ("ultrachat", {"data": ["Hi", None]}, "prompt is not text"),
        ("ultrachat", {"data": ["Hi", "Hello", "", "x"]}, "blank prompt"),
        ("critiques", {"data": None}, "data is null"),
        ("critiques", {"data": {"questions": []}}, "no field passage"),
        ("messages", {"messages": [assistant("x")]}, "no user turn to answer"),
    ],
)
def test_odd_rows_by_reason_with_file_and_line(format: str, change: Any, reason: str, tmp_path: Path) -> None:
    """Left out and counted, or fatal, between two good rows."""
    good = GOOD[format]
    source = lines(tmp_path, good, {**good, **change}, {**good, "more": 1})
    loaded = load_dataset_rows(source, format)
    assert len(loaded.rows) == 2
    assert loaded.skipped == {reason: [f"{source}, line 2"]}
    with pytest.raises(DataError) as caught:
        load_dataset_rows(source, format, on_bad_rows="fail")
    assert caught.value.found.startswith(f"{source}, line 2: ")


def test_a_field_that_is_missing_is_named_beside_those_that_are_there(tmp_path: Path) -> None:
    source = lines(tmp_path, GOOD["preference"], {"prompt": "x", "chosen": "y"})
    assert load_dataset_rows(source).skipped == {"no field rejected": [f"{source}, line 2"]}
    with pytest.raises(DataError, match="line 2: no field rejected; its fields are: prompt, chosen"):
        load_dataset_rows(source, on_bad_rows="fail")


def test_one_bad_answer_of_several_is_left_out_alone(tmp_path: Path) -> None:
    answers = [rated(COD, 8.0, ""), rated("", 1.0, ""), rated(CAR, NAN, ""), {"response": "x", "overall_score": None}]
    source = lines(tmp_path, {"instruction": FISH, "completions": answers})
    loaded = load_dataset_rows(source)
    assert loaded.rows[0].completions == [Completion(COD, 8.0)]
    assert loaded.skipped == {
        "response is empty": [f"{source}, line 1, answer 2"],
        "overall_score is not a number": [f"{source}, line 1, answer 3"],
        "overall_score is null": [f"{source}, line 1, answer 4"],
    }
    with pytest.raises(DataError, match="line 1, answer 2: response is empty"):
        load_dataset_rows(source, on_bad_rows="fail")


def test_a_benchmark_keeps_an_instruction_that_its_model_did_not_answer(tmp_path: Path) -> None:
    source = lines(tmp_path, {"instruction": FISH, "output": "", "generator": "x"})
    loaded = load_dataset_rows(source)
    assert (loaded.rows[0].messages, loaded.rows[0].completions) == ([user(FISH)], [])
    assert loaded.skipped == {"output is empty": [f"{source}, line 1, answer 1"]}
    assert len(list(load_prompt_rows(source).rows)) == 1


def test_questions_of_one_passage_are_rows_of_their_own(tmp_path: Path) -> None:
    skipped = {**criticised(COD, 7), "feedback": {"skip": True}}
    questions = [
        {"question": FISH, "answers": [criticised(COD, 7), skipped]},
        {"question": "", "answers": [criticised(COD, 7)]},
        {"question": "Why?", "answers": [criticised(COD, 3)]},
    ]
    source = lines(tmp_path, {"id": 1, "data": {"passage": {"text": "A cod swims."}, "questions": questions}})
    loaded = load_dataset_rows(source)
    assert [row.messages[0]["content"] for row in loaded.rows] == [f"A cod swims.\n{FISH}"]
    assert loaded.skipped == {
        "skipped by the labeler": [f"{source}, line 1, question 1, answer 2"],
        "question is empty": [f"{source}, line 1, question 2"],
        "no judgment beside a low score": [f"{source}, line 1, question 3"],
    }


@pytest.mark.parametrize("odd", ["x" * 1_000_000, "🐟‍🐟", "שלום עולם", "a\x00b", "\u2028", "e\u0301"])
def test_odd_texts_are_kept_exactly(odd: str, tmp_path: Path) -> None:
    source = lines(tmp_path, {"prompt": odd + "?", "chosen": odd + "1", "rejected": odd + "2"})
    (row,) = load_dataset_rows(source).rows
    assert row.messages == [user(odd + "?")]
    assert [completion.text for completion in row.completions] == [odd + "1", odd + "2"]


def test_ids_that_repeat_are_only_metadata(tmp_path: Path) -> None:
    """Files put together often number their rows from 0 each; only whole rows that repeat are left out."""
    first, other = {"id": 1, "prompt": "A", "output": "x"}, {"id": 1, "prompt": "B", "output": "x"}
    loaded = load_dataset_rows(lines(tmp_path, first, other, first))
    assert [row.messages[0]["content"] for row in loaded.rows] == ["A", "B"]
    assert loaded.duplicates == 1


def test_a_wrong_format_by_name_says_what_is_there(tmp_path: Path) -> None:
    source = lines(tmp_path, GOOD["judgments"])
    with pytest.raises(DataError, match=r"none of 1 rows can be read as preference(.|\n)*no field chosen: 1"):
        load_dataset_rows(source, "preference")
    with pytest.raises(DataError, match="no field chosen; its fields are: id, instruction"):
        load_dataset_rows(source, "preference", on_bad_rows="fail")
    with pytest.raises(DataError, match=r"format 'dpo'(.|\n)*use one of critiques, ultrafeedback"):
        load_dataset_rows(source, "dpo")


def test_no_known_format_names_the_fields(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no known format; the fields of its rows are: text, n"):
        load_dataset_rows(lines(tmp_path, {"text": "x", "n": 1}))


def test_a_few_odd_rows_do_not_change_the_format(tmp_path: Path) -> None:
    rows = [{"text": "x"}, *[{**GOOD["judgments"], "id": number} for number in range(5)], {"prompt": "x"}, [1]]
    source = lines(tmp_path, *rows)
    loaded = load_dataset_rows(source)
    assert (loaded.format, len(loaded.rows)) == ("judgments", 5)
    assert loaded.skipped == {
        "no field judgment": [f"{source}, line 1", f"{source}, line 7"],
        "not an object": [f"{source}, line 8"],
    }


def test_the_stream_fails_at_its_end_where_no_row_was_good(tmp_path: Path) -> None:
    stream = iter_dataset_rows(lines(tmp_path, {"prompt": ""}, {"prompt": None}))
    with pytest.raises(DataError, match="none of 2 rows"):
        list(stream.rows)
    assert stream.read == 2


def test_bad_rows_cross_no_reader_unseen() -> None:
    assert [type(row) for _, row in read_record(BadRow("x"), "row 1", FORMATS["prompts"])] == [BadRow]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real datasets are not on this machine")
def test_real_datasets() -> None:
    judged = load_dataset_rows(str(SHARED / "cut_judgments_iter1.json"))
    verdicts = [row.completions[0].verdict for row in judged.rows]
    assert (judged.format, len(verdicts), verdicts.count("perfect"), judged.skipped) == ("judgments", 1000, 713, {})
    for name, format, count, silent in [
        ("alpaca_eval_davinci003.json", "alpaca-eval", 805, 2),
        ("alpaca_eval_gpt4_1106.json", "alpaca-eval", 805, 0),
        ("mt_bench_questions.jsonl", "prompts", 80, 0),
    ]:
        loaded = load_dataset_rows(str(SHARED / name))
        assert (loaded.format, len(loaded.rows) + loaded.duplicates) == (format, count)
        assert {reason: len(names) for reason, names in loaded.skipped.items()} == (
            {"output is empty": silent} if silent else {}
        )
