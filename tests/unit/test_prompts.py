"""Reading prompt files of every format, splitting and drawing them."""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rayalign.data.dataset import KEPT_NAMES
from rayalign.data.formats import DETECT_ROWS
from rayalign.data.prompts import load_prompt_rows, rows_from_records
from rayalign.errors import DataError
from rayalign.records import prompt_id


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def written(tmp_path: Path, content: str | bytes, name: str = "prompts.jsonl") -> str:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def refusal(tmp_path: Path, content: str | bytes, name: str = "prompts.jsonl", field: str = "auto") -> str:
    with pytest.raises(DataError) as caught:
        list(load_prompt_rows(written(tmp_path, content, name), field).rows)
    return str(caught.value)


CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]


@pytest.mark.parametrize(
    ("record", "messages", "target"),
    [
        ({"prompt": "Hi"}, user("Hi"), None),
        ({"prompt": CHAT}, CHAT, None),
        ({"prompt": "Hi", "output": "Hello"}, user("Hi"), "Hello"),
        ({"prompt": "Hi", "response": "Hello", "target": "Yo"}, user("Hi"), "Yo"),
        ({"prompt": "Hi", "completion": [1]}, user("Hi"), None),
        ({"instruction": "Add.", "input": "1 2", "output": "3"}, user("Add.\n1 2"), "3"),
        ({"instruction": "Add.", "input": "", "output": ""}, user("Add."), None),
        ({"messages": [*CHAT, {"role": "assistant", "content": "Hello"}]}, CHAT, "Hello"),
        ({"messages": CHAT, "answer": "Hey"}, CHAT, "Hey"),
        ({"turns": ["First", "Second"]}, user("First"), None),
        ({"prompt": "nul \u0000 stays"}, user("nul \u0000 stays"), None),
    ],
)
def test_formats(record: dict[str, Any], messages: list[dict[str, str]], target: str | None) -> None:
    (row,) = rows_from_records([record], "here").rows
    assert (row.messages, row.target, row.id) == (messages, target, prompt_id(messages))


def test_ids_and_other_fields_become_metadata() -> None:
    record = {"id": 7, "instruction": "A", "input": "B", "output": "C", "metadata": {"split": "train", "n": 3}}
    (row,) = rows_from_records([record], "here").rows
    assert row.metadata == {"id": 7, "split": "train", "n": 3}


def test_an_answer_is_the_target_and_stays_where_the_answer_scorer_looks() -> None:
    (row,) = rows_from_records([{"prompt": "3 * 4?", "answer": "It is 12.\n#### 12", "n": 1}], "here").rows
    assert row.target == "It is 12.\n#### 12"
    assert row.metadata == {"answer": "It is 12.\n#### 12", "n": 1}


def test_named_field(tmp_path: Path) -> None:
    (row,) = load_prompt_rows(written(tmp_path, '{"question": "Why?", "prompt": "no"}'), "question").rows
    assert row.messages == user("Why?")
    assert row.metadata == {"prompt": "no"}


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ('[{"prompt": "A"}, {"prompt": "B"}]', "p.json"),
        ('{"version": 1, "data": [{"prompt": "A"}, {"prompt": "B"}]}', "p.json"),
        ('{"prompt": "A"}\n\n{"prompt": "B"}\r\n', "p.jsonl"),
        ('{"prompt": "A"}\n{"prompt": "B"}\n', "p.json"),
        ('\ufeff{"prompt": "A"}\n{"prompt": "B"}', "p.jsonl"),
    ],
)
def test_files(tmp_path: Path, content: str, name: str) -> None:
    assert [row.messages[0]["content"] for row in load_prompt_rows(written(tmp_path, content, name)).rows] == ["A", "B"]


def test_one_conversation_is_a_row_and_not_a_list_of_rows(tmp_path: Path) -> None:
    (row,) = load_prompt_rows(written(tmp_path, json.dumps({"messages": CHAT}), "p.json")).rows
    assert row.messages == CHAT


def test_line_separators_inside_strings_do_not_end_a_row(tmp_path: Path) -> None:
    (row,) = load_prompt_rows(written(tmp_path, '{"prompt": "a\u2028b"}')).rows
    assert row.messages == user("a\u2028b")


def test_rows_are_read_when_they_are_asked_for_and_not_kept() -> None:
    read, alive = [], weakref.WeakSet()

    class Text(str):
        __slots__ = ("__weakref__",)

    def records() -> Iterator[dict[str, Any]]:
        for number in range(1000):
            read.append(number)
            text = Text(f"List {number} animals.")
            alive.add(text)
            yield {"prompt": text}

    rows = rows_from_records(records(), "here").rows
    assert len(read) == DETECT_ROWS
    for number, row in enumerate(rows):
        assert row.messages == user(f"List {number} animals.")
        assert len(read) == max(DETECT_ROWS, number + 1)
        assert len(alive) <= DETECT_ROWS + 2


def test_of_rows_left_out_the_first_ones_are_known_by_name() -> None:
    lines = [{"prompt": " "} for _ in range(KEPT_NAMES + 50)]
    result = rows_from_records([{"prompt": "A"}, *lines], "here")
    assert len(list(result.rows)) == 1
    assert result.left_out.counts == {"blank prompt": KEPT_NAMES + 50}
    assert result.left_out.names == {"blank prompt": [f"row {2 + i}" for i in range(KEPT_NAMES)]}
    assert result.left_out.to_dict()["blank prompt"]["count"] == KEPT_NAMES + 50


def test_unusable_rows_are_named_by_reason(tmp_path: Path) -> None:
    lines = [
        '{"prompt": "good"}',
        '{"prompt": " \\n"}',
        '{"prompt": null}',
        '{"prompt": []}',
        '{"messages": [{"role": "assistant", "content": "x"}]}',
        '{"prompt": "\\ud800"}',
        '{"messages": [{"role": "user", "content": [{"type": "image"}]}]}',
        '{"turns": [1]}',
    ]
    result = load_prompt_rows(written(tmp_path, "\n".join(lines)))
    assert len(list(result.rows)) == 1
    assert result.left_out.names == {
        "blank prompt": ["line 2"],
        "prompt is not text": ["line 3", "line 4", "line 8"],
        "no user turn to answer": ["line 5"],
        "not valid Unicode (half of a surrogate pair)": ["line 6"],
        "a message has a part of the type 'image', and only text can be kept": ["line 7"],
    }


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        ('{"prompt": "A"}\n{"prompt": "B"\n', "p.jsonl", "p.jsonl, line 2, column 15"),
        ('[\n{"prompt": "A"},\n{"prompt" "B"}]', "p.json", "p.json, line 3, column 11"),
        ('{"prompt": "A"}\n{"text": "B", "id": 1}', "p.jsonl", "line 2: no field messages or prompt or instruction"),
        ('{"prompt": "A"}\n{"text": "B", "id": 1}', "p.jsonl", "its fields are: text, id"),
        ('{"prompt": "A"}\n[1]', "p.jsonl", "line 2: found list"),
        ('{"messages": [{"by": "human", "said": "x"}]}', "p.jsonl", "a message with the fields: by, said"),
        ("", "p.jsonl", "is empty"),
        ("\n \n", "p.json", "is empty"),
        ("[]", "p.json", "no rows"),
        ("3", "p.json", "found int"),
        ('{"a": [], "b": []}', "p.json", "it holds 2 lists"),
        (b'{"prompt": "A"}\n{"prompt": "\xff"}', "p.jsonl", "line 2: byte 0xff is not UTF-8"),
        ('{"prompt": ""}\n{"prompt": 3}', "p.jsonl", "none of 2 rows has a usable prompt"),
        ("[" * 100_000, "p.json", "cannot be read"),
        ("9" * 5000, "p.jsonl", "cannot be read"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, content: str | bytes, name: str, words: str) -> None:
    assert words in refusal(tmp_path, content, name)


def test_missing_file_and_missing_named_field(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        load_prompt_rows(str(tmp_path / "none.jsonl"))
    assert "no field question; its fields are: prompt" in refusal(tmp_path, '{"prompt": "A"}', field="question")
