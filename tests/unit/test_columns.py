"""Tables that stand in a JSON file by columns, and JSON files that only look like one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rayalign.data.loading import load_dataset_rows
from rayalign.data.prompts import load_prompt_rows
from rayalign.errors import DataError
from tests.unit.format_cases import CAR, COD, FISH, PAIR, TWO, assistant, criticised, user


def written(tmp_path: Path, value: Any) -> str:
    path = tmp_path / "d.json"
    path.write_text(json.dumps(value))
    return str(path)


TWO_ROWS = [([user("A")], "x"), ([user("B")], "y")]


@pytest.mark.parametrize(
    "table",
    [
        {"prompt": ["A", "B"], "target": ["x", "y"]},
        {"prompt": {"0": "A", "1": "B"}, "target": {"0": "x", "1": "y"}},
        {"prompt": {"1": "A", "0": "B"}, "target": {"0": "y", "1": "x"}},
        {"0": {"prompt": "A", "target": "x"}, "1": {"prompt": "B", "target": "y"}},
        {"columns": ["prompt", "target"], "index": [0, 1], "data": [["A", "x"], ["B", "y"]]},
        {"messages": [[user("A"), assistant("x")], [user("B"), assistant("y")]]},
        {"instruction": ["A", "B"], "input": ["", ""], "output": ["x", "y"]},
        {"id": [1, 2], "conversations": [[user("A"), assistant("x")], [user("B"), assistant("y")]]},
        {"data": [{"prompt": "A", "target": "x"}, {"prompt": "B", "target": "y"}]},
        {"schema": {"fields": []}, "data": [{"prompt": "A", "target": "x"}, {"prompt": "B", "target": "y"}]},
        {"data": [["A", "x"], ["B", "y"]]},
    ],
)
def test_rows_of_a_table(table: dict[str, Any], tmp_path: Path) -> None:
    source = written(tmp_path, table)
    assert [(row.messages, row.target) for row in load_dataset_rows(source).rows] == TWO_ROWS
    assert [(row.messages, row.target) for row in load_prompt_rows(source).rows] == TWO_ROWS


def test_one_row_by_columns_and_one_row_that_is_a_whole_file(tmp_path: Path) -> None:
    (row,) = load_dataset_rows(written(tmp_path, {"prompt": ["A"], "target": ["x"]})).rows
    assert (row.messages, row.target) == TWO_ROWS[0]
    for record, messages in (
        ({"messages": TWO}, TWO),
        ({"prompt": TWO, "tags": ["x", "y", "z"]}, TWO),
        ({"prompt": [user(FISH)], "chosen": [assistant(COD)], "rejected": [assistant(CAR)]}, [user(FISH)]),
        ({"turns": [FISH, "Another."]}, [user(FISH)]),
        ({"turns": [FISH, "Another."], "reference": ["a", "b"]}, [user(FISH)]),
        ({"data": ["Hi", "Hello", FISH]}, TWO),
        (
            {"data": {"passage": {"text": "A."}, "questions": [{"question": "B", "answers": [criticised(COD, 7)]}]}},
            [user("A.\nB")],
        ),
    ):
        (row,) = load_dataset_rows(written(tmp_path, record)).rows
        assert row.messages == messages


def test_pairs_by_columns(tmp_path: Path) -> None:
    table = {"prompt": [FISH, "Hi"], "chosen": [[assistant(COD)]] * 2, "rejected": [[assistant(CAR)]] * 2}
    found = load_dataset_rows(written(tmp_path, table)).rows
    assert [(row.messages, row.completions) for row in found] == [([user(FISH)], PAIR), ([user("Hi")], PAIR)]


def test_the_field_that_the_config_names(tmp_path: Path) -> None:
    source = written(tmp_path, {"asked": ["A", "B"], "n": [1, 2]})
    assert [row.messages for row in load_prompt_rows(source, "asked").rows] == [[user("A")], [user("B")]]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"prompt": ["A", "B"], "target": ["x"]}, r"columns of different lengths \(prompt: 2, target: 1\)"),
        ({"prompt": ["A", "B"], "version": 1}, "prompt is a list of texts: a table by columns"),
        ({"prompt": {"0": "A"}, "target": {"1": "x"}}, "prompt is not text"),
        ({"train": [{"prompt": "A"}], "test": [{"prompt": "B"}]}, "it holds 2 lists, so the rows cannot be told"),
        ({"columns": ["prompt", "prompt"], "data": [["A", "B"]]}, "it holds 2 lists, so the rows cannot be told"),
        ({"columns": ["prompt"], "data": [["A", "B"]]}, "it holds 2 lists, so the rows cannot be told"),
        ({"\ud83d": 1}, r"keys: \\ud83d"),
    ],
)
def test_tables_that_are_refused(table: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words):
        load_dataset_rows(written(tmp_path, table))
