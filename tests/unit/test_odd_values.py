"""Values that JSON, UTF-8 or a float cannot hold: text, null, or a counted row; never a traceback, from any source."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rayalign.cli import exit_code
from rayalign.data import sources
from rayalign.data.dataset import BadRow, Completion, DatasetRow
from rayalign.data.formats import FORMATS, detect, read_record
from rayalign.data.loading import load_dataset_rows
from rayalign.data.plain import MAX_DEPTH
from tests.unit.format_cases import CAR, COD, FISH, PAIR, user

SIDES = {"prompt": FISH, "chosen": COD, "rejected": CAR}
NAN, INF = float("nan"), float("inf")
HALF = "\ud83d"


def read(record: Any, format: str = "preference") -> DatasetRow | BadRow:
    ((_, row),) = read_record(record, "row 1", FORMATS[format])
    return row


VALUES: list[tuple[object, object]] = [
    (date(2024, 1, 2), "2024-01-02"),
    (datetime(2024, 1, 2, 3, 4, 5, 6, UTC), "2024-01-02T03:04:05.000006+00:00"),
    (time(3, 4), "03:04:00"),
    (timedelta(days=1, seconds=3, microseconds=500_000), "P1DT3.5S"),
    (timedelta(seconds=-1), "P-1DT86399S"),
    (pa.MonthDayNano((2, 3, 10**9)), "P2M3DT1S"),
    (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (Decimal("1.50"), "1.50"),
    (b"text", "text"),
    (b"\xff\x00", "/wA="),
    ({3, 1, 2}, [1, 2, 3]),
    ((1, 2, date(2024, 1, 2)), [1, 2, "2024-01-02"]),
    ([("a", 1), ("b", date(2024, 1, 2))], {"a": 1, "b": "2024-01-02"}),
    ([("a", 1), ("a", 2)], [["a", 1], ["a", 2]]),
    ({1: "x", None: "y", date(2024, 1, 2): "z"}, {"1": "x", "null": "y", "2024-01-02": "z"}),
    (NAN, None),
    (INF, "Infinity"),
    ([-INF, {"deep": [NAN]}], ["-Infinity", {"deep": [None]}]),
    (Decimal("NaN"), None),
    (10**400, 10**400),
    (np.float32(1.5), 1.5),
    (np.int64(3), 3),
    (np.bool_(True), True),
    (np.array([[1.0, NAN]]), [[1.0, None]]),
    (np.datetime64("2024-01-02"), "2024-01-02"),
    (np.datetime64("NaT"), None),
]


@pytest.mark.parametrize(("value", "written"), VALUES, ids=str)
def test_metadata_become_what_json_holds(value: object, written: object) -> None:
    for name, given, expected in (("x", value, written), ("x", {"deep": [value]}, {"deep": [written]})):
        row = read({**SIDES, name: given})
        assert isinstance(row, DatasetRow), row
        assert row.completions == PAIR
        assert row.metadata == {name: expected}
        assert json.loads(json.dumps(row.metadata, allow_nan=False)) == row.metadata


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"source": HALF}, "source is not valid Unicode (half of a surrogate pair)"),
        ({"source": {"deep": [HALF]}}, "source is not valid Unicode (half of a surrogate pair)"),
        ({HALF: 1}, "\\ud83d is not valid Unicode (half of a surrogate pair)"),
        ({"prompt": HALF}, "not valid Unicode (half of a surrogate pair)"),
        ({"rejected": HALF}, "not valid Unicode (half of a surrogate pair)"),
        ({"prompt": [{"role": "system", "content": HALF}, user("x")]}, "not valid Unicode (half of a surrogate pair)"),
        ({"x": 10**5000}, "x holds a number of more than 4,000 digits"),
        ({"x": nested(MAX_DEPTH + 1)}, f"x has more than {MAX_DEPTH} lists or objects within each other"),
        ({"x": CIRCLE}, f"x has more than {MAX_DEPTH} lists or objects within each other"),
        ({"x": [1j]}, "x is a complex, which JSON cannot hold"),
        ({"x": {1: "a", "1": "b"}}, "x has two keys of the same text"),
        ({"chosen": b"\xff"}, "chosen and rejected are neither two texts nor two conversations"),
        ({"prompt": NAN}, "prompt is not text"),
    ],
)
def test_rows_that_are_counted(more: dict[str, Any], reason: str) -> None:
    row = read({**SIDES, **more})
    assert isinstance(row, BadRow)
    assert row.reason == reason
    row.error("here").found.encode()


def test_a_missing_text_that_pandas_calls_nan_is_no_text() -> None:
    row = read({**SIDES, "system": NAN, "history": NAN, "tools": NAN})
    assert isinstance(row, DatasetRow)
    assert (row.messages, row.metadata) == ([user(FISH)], {"tools": None})
    row = read({"instruction": FISH, "input": NAN, "output": COD}, "alpaca")
    assert row == DatasetRow([user(FISH)], target=COD)


@pytest.mark.parametrize("score", [10**400, -(10**400), INF, -INF, Decimal("Infinity"), Decimal("1e999")])
def test_scores_that_no_float_holds_are_left_out_alone(score: object) -> None:
    finite = "is not a finite number"
    answers = [{"response": COD, "overall_score": score}, {"response": CAR, "overall_score": Decimal("1.5")}]
    row = read({"instruction": FISH, "completions": answers}, "ultrafeedback")
    assert isinstance(row, DatasetRow)
    assert (row.completions, row.left_out) == ([Completion(CAR, 1.5)], {f"overall_score {finite}": ["answer 1"]})
    row = read({"prompt": FISH, "answers": [{"answer": "a", "rank": score}, {"answer": "b", "rank": 1}]}, "nectar")
    assert isinstance(row, DatasetRow) and row.left_out == {f"rank {finite}": ["answer 1"]}
    row = read({"instruction": FISH, "output": COD, "judgment": "Bad.", "score": score}, "judgments")
    assert isinstance(row, BadRow) and row.reason == f"score {finite}"


def test_odd_values_do_not_hide_the_format() -> None:
    dialogue = b"\n\nHuman: Hi\n\nAssistant: "
    assert detect([{"chosen": dialogue + b"a", "rejected": dialogue + b"b"}], "here").format == "hh-rlhf"
    assert detect([{**SIDES, "x": 1j}], "here").format == "preference"


def column(values: list[Any], kind: pa.DataType) -> pa.Array:
    return pa.array(values, kind)


STRINGS = pa.Array.from_buffers(
    pa.string(), 2, [None, pa.array([0, 2, 4], pa.int32()).buffers()[1], pa.py_buffer(b"ok\xff\xfe")]
)
COLUMNS: list[tuple[pa.Array, list[object]]] = [
    (pa.ExtensionArray.from_storage(pa.uuid(), column([bytes(16)] * 2, pa.binary(16))), [str(UUID(int=0))] * 2),
    (pa.ExtensionArray.from_storage(pa.json_(), column(['{"k": [1]}', None], pa.string())), [{"k": [1]}, None]),
    (column([[("k", date(2024, 1, 2))], None], pa.map_(pa.string(), pa.date32())), [{"k": "2024-01-02"}, None]),
    (column([1, 2], pa.timestamp("ns")), ["1970-01-01T00:00:00.000000001", "1970-01-01T00:00:00.000000002"]),
    (column([Decimal("1.5"), None], pa.decimal128(5, 2)), ["1.50", None]),
    (column([timedelta(seconds=3), None], pa.duration("us")), ["P0DT3S", None]),
    (column([1, 10**9], pa.date32()), ["1970-01-02", "at holds a value that cannot be read"]),
    (STRINGS, ["ok", "at holds a value that cannot be read"]),
]


def outcomes(rows: Iterator[sources.SourceRow]) -> list[object]:
    found = (read(row.record) for row in rows)
    return [row.reason if isinstance(row, BadRow) else row.metadata["at"] for row in found]


@pytest.mark.parametrize(("values", "expected"), COLUMNS, ids=lambda value: str(getattr(value, "type", "")))
def test_types_of_parquet(values: pa.Array, expected: list[object], tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    sides = {name: [text] * 2 for name, text in SIDES.items()}
    pq.write_table(pa.table({**sides, "at": values}), path)
    assert outcomes(sources.file_rows(str(path), lambda record: False)) == expected


@pytest.mark.slow
def test_the_hub_goes_through_the_same_door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The `datasets` library on a folder, in place of the hub: the same rows as the file itself."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    sides = {name: [text] * 3 for name, text in SIDES.items()}
    odd = {
        "at": [datetime(2024, 1, 2, 3), None, datetime(2024, 1, 2)],
        "day": [date(2024, 1, 2)] * 3,
        "t": [time(3, 4)] * 3,
        "for": [timedelta(seconds=3)] * 3,
        "cost": [Decimal("1.50"), None, Decimal("2.00")],
        "raw": [b"\xff", b"ok", None],
        "share": [NAN, INF, 0.5],
    }
    (tmp_path / "d").mkdir()
    pq.write_table(pa.table({**sides, **odd}), tmp_path / "d" / "train.parquet")
    parts = {"name": str(tmp_path / "d"), "config": None, "revision": None, "split": None}
    found = [read(row.record) for row in sources._hub_rows("owner/name", parts)]
    assert found == load_dataset_rows(str(tmp_path / "d")).rows
    assert isinstance(found[0], DatasetRow)
    assert found[0].metadata == {
        "at": "2024-01-02T03:00:00", "day": "2024-01-02", "t": "03:04:00", "for": "P0DT3S", "cost": "1.50",
        "raw": "/w==", "share": None,
    }  # fmt: skip


def test_the_command_counts_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        json.dumps({**SIDES, "source": HALF}),
        json.dumps({**SIDES, HALF: 1}),
        json.dumps({**SIDES, "n": NAN, "big": 10**400}),
        json.dumps(SIDES)[:-1] + ', "n": ' + "9" * 5000 + "}",
        json.dumps(SIDES)[:-1] + ', "n": ' + "[" * 100_000 + "}",
    ]
    source, out = tmp_path / "d.jsonl", tmp_path / "out.jsonl"
    source.write_text("\n".join(rows))
    assert exit_code(["convert", str(source), "--to", "preference", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert f"1 left out, source is not valid Unicode (half of a surrogate pair): {source}, line 1" in said
    assert f"1 left out, \\ud83d is not valid Unicode (half of a surrogate pair): {source}, line 2" in said
    assert f"2 left out, JSON that cannot be read: {source}, line 4; {source}, line 5" in said
    (written,) = map(json.loads, out.read_text().splitlines())
    assert written == {**SIDES, "metadata": {"n": None, "big": 10**400}}


@pytest.mark.parametrize(
    "text",
    [
        "[OrderedDict([('role', 'user'), ('content', 'Hi')])]",
        "OrderedDict([('role', 'user'), ('content', 'Hi')])",
        "[OrderedDict({'role': 'user', 'content': 'Hi'})]",
        "[ChatMessage(role='user', content='Hi'), ChatMessage(role='assistant', content='Yo')]",
        "[schema.Turn(value='Hi', from='human')]",
        "[Row(role='user', content='Hi')]",
        "[dict(role='user', content='Hi')]",
    ],
)
def test_turns_that_python_prints_as_objects_are_counted(text: str) -> None:
    for record in ({"messages": text}, {"prompt": text}, {"prompt": FISH, "chosen": text, "rejected": text}):
        row = read(record, "preference" if "chosen" in record else "prompts")
        assert isinstance(row, BadRow) and row.reason.endswith("is the text of a list that cannot be read"), row


@pytest.mark.parametrize("text", ["print(role='x')", "f(x) is role=content?", "OrderedDict([('role', 1)])"])
def test_code_is_a_prompt(text: str) -> None:
    row = read({"prompt": text}, "prompts")
    assert isinstance(row, DatasetRow) and row.messages == [user(text)]
