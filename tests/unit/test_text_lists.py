"""Lists that stand as text in CSV, JSONL and Parquet: read as turns, or counted; other texts stay as they are."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rayalign.data.dataset import BadRow, Completion, DatasetRow
from rayalign.data.formats import FORMATS, read_record
from rayalign.data.literals import MAX_LITERAL
from rayalign.data.loading import load_dataset_rows
from rayalign.data.writers import WRITERS
from tests.unit.format_cases import CAR, COD, FISH, PAIR, TWO, assistant, user

LATE = 'It\'s "late".\nName a bird: 🐦'
CHAT = [user(LATE), assistant(COD)]
PREFERENCE = {"chosen": [user(FISH), assistant(COD)], "rejected": [user(FISH), assistant(CAR)]}


def write(kind: str, rows: list[dict[str, str]], tmp_path: Path) -> str:
    path = tmp_path / f"d.{kind}"
    if kind == "csv":
        with path.open("w", newline="") as file:
            table = csv.DictWriter(file, rows[0])
            table.writeheader()
            table.writerows(rows)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    return str(path)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize(
    "as_text",
    [json.dumps, str, lambda value: json.dumps(json.dumps(value)), lambda value: json.dumps(json.dumps(str(value)))],
    ids=["json", "python", "json twice", "python in json twice"],
)
def test_lists_as_text_are_read_like_lists(kind: str, as_text: Any, tmp_path: Path) -> None:
    def read(record: dict[str, Any]) -> DatasetRow:
        row = {name: value if isinstance(value, str) else as_text(value) for name, value in record.items()}
        (found,) = load_dataset_rows(write(kind, [row], tmp_path)).rows
        return found

    assert read({"messages": CHAT}) == DatasetRow([user(LATE)], target=COD)
    assert read({"conversations": [{"from": "human", "value": LATE}]}) == DatasetRow([user(LATE)])
    assert read(PREFERENCE) == DatasetRow([user(FISH)], PAIR)
    assert read({"prompt": FISH, **PREFERENCE}) == DatasetRow([user(FISH)], PAIR)
    assert read({"prompt": TWO, "chosen": [assistant(COD)], "rejected": [assistant(CAR)]}) == DatasetRow(TWO, PAIR)
    assert read({"prompt": FISH, "chosen": assistant(COD), "rejected": assistant(CAR)}) == DatasetRow(
        [user(FISH)], PAIR
    )
    assert read({"prompt": TWO, "completion": [assistant(COD)]}) == DatasetRow(TWO, target=COD)
    assert read({"turns": [FISH, "Another."]}) == DatasetRow([user(FISH)])
    assert read({"data": ["Hi", "Hello", FISH, COD]}) == DatasetRow(TWO, target=COD)
    assert read({"instruction": FISH, "output": COD, "history": [["Hi", "Hello"]]}) == DatasetRow(TWO, target=COD)
    rated = [{"response": COD, "overall_score": 8.5}, {"response": CAR, "overall_score": 1}]
    found = read({"instruction": FISH, "completions": rated})
    assert found == DatasetRow([user(FISH)], [Completion(COD, 8.5), Completion(CAR, 1.0)])
    ranked = [{"answer": COD, "rank": 1.0}]
    assert read({"prompt": FISH, "answers": ranked}) == DatasetRow([user(FISH)], [Completion(COD, -1.0)], COD)


def test_a_list_of_turns_that_are_texts_themselves() -> None:
    for text in (json.dumps([json.dumps(turn) for turn in CHAT]), str([str(turn) for turn in CHAT])):
        ((_, row),) = read_record({"messages": text}, "row 1", FORMATS["prompts"])
        assert row == DatasetRow([user(LATE)], target=COD)


NUMPY = "[{'role': 'user', 'content': 'a'}\n {'role': 'assistant', 'content': 'b'}]"
UNREADABLE = [
    NUMPY,
    f"array({NUMPY.replace('}', '},', 1)}, dtype=object)",
    "[{'content': 'a', 'role': 'user'}, {'content': 'Name a f",
    "[{'role': 'user', 'content': 'a'}, ..., {'role': 'user', 'content': 'b'}]",
    "[{'id': 1, 'role': 'user', 'content': 'a'}\n {'id': 2, 'role': 'user', 'content': 'b'}]",
    "[{'role': 'user' 'content': 'a'}]",
    "[{'role': 'user', 'content': 'a' 'b'}]",
    "[{'role': 'user', 'content': f(1)}]",
    "[{'role': 'user', 'content': " + "[" * 5000 + "}]",
    "[{'role': 'user', 'content': '" + "a" * MAX_LITERAL + "'}]",
    '[{"role": "user", "content": ' + "9" * 5000 + "}]",
    '[{"user","Name a fish."}, {"assistant","Cod."}]',
    '[{"Name a fish.","user"}, {"Cod.","assistant"}]',
    '{"user","Name a fish."}',
    "[{user, Name a fish.}, {assistant, Cod.}]",
    "[{role=user, content=Name a fish.}]",
    "[{'role': user, 'content': Name a fish.}]",
    json.dumps(NUMPY),
]


@pytest.mark.parametrize("text", UNREADABLE)
@pytest.mark.parametrize("field", ["messages", "prompt", "conversations"])
def test_a_list_that_cannot_be_read_is_counted(field: str, text: str) -> None:
    ((_, row),) = read_record({field: text}, "row 1", FORMATS["prompts"])
    assert isinstance(row, BadRow)
    assert (row.reason, row.found) == (f"{field} is the text of a list that cannot be read", "")


@pytest.mark.parametrize(("field", "text"), [("history", "[['a' 'b']]"), ("history", "[[1,"), ("tools", "[{}")])
def test_lists_of_other_fields_too(field: str, text: str) -> None:
    ((_, row),) = read_record({"prompt": FISH, field: text}, "row 1", FORMATS["prompts"])
    assert isinstance(row, BadRow) and field in row.reason


TEXTS = [
    "[1, 2, 3] What is the sum?",
    "[]",
    "[INST] is a mark",
    "{'role': 'user'} is a dict of what size?",
    '{"name": "x", "messages": [{"role": "user", "content": "y"}]}',
    "[{'role': 'admin', 'id': 3}]",
    "[{'a': 1}\n {'b': 2}]",
    "(see 'role': 'content':)",
    "[[[[",
    "Read [{'role': 'user', 'content': 'a'}] aloud.",
    '"[1, 2]"',
    '"Be." [{ says who?',
    "{user, admin} are roles of what",
    '{"user", "admin"} is a set of what?',
]


@pytest.mark.parametrize("text", TEXTS)
def test_other_texts_stay_texts(text: str) -> None:
    ((_, row),) = read_record({"prompt": text, "chosen": text, "rejected": "x"}, "row 1", FORMATS["preference"])
    assert isinstance(row, DatasetRow), row
    assert (row.messages, row.completions[0].text) == ([user(text)], text)


ODD = [str(CHAT), json.dumps(CHAT), str(CHAT[0]), NUMPY, "\n\nHuman: Hi\n\nAssistant: Hello"]


@pytest.mark.parametrize("to", WRITERS)
@pytest.mark.parametrize("text", ODD)
def test_a_text_that_looks_like_a_conversation_is_written_so_that_it_stays_one(text: str, to: str) -> None:
    """What was read as text, from a conversation's message, comes back as the same text."""
    row = DatasetRow(
        [user(text)], [Completion(f"{text} ", 1.0, None, "perfect"), Completion(text, 0.0, "Bad.", "flawed")], text
    )
    written = WRITERS[to](row, Counter())
    assert written
    back = [one for record in written for _, one in read_record(json.loads(json.dumps(record)), "r", FORMATS[to])]
    for one in back:
        assert isinstance(one, DatasetRow), one
        assert one.messages == row.messages
        assert one.target in (None, text)
        assert {answer.text for answer in one.completions} <= {text, f"{text} "}
