"""Where datasets come from: kinds of files, folders, stores, the hub; one row at a time."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rayalign.data import sources
from rayalign.data.loading import iter_dataset_rows, load_dataset_rows
from rayalign.data.sources import locate, open_source, source_files
from rayalign.errors import DataError
from tests.unit.format_cases import CASES, assistant, user

ROWS = [{"prompt": f"Question {n}?", "chosen": "yes", "rejected": "no"} for n in range(3)]


def jsonl(rows: list[Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def csv(rows: list[dict[str, str]]) -> bytes:
    return ("prompt,chosen,rejected\n" + "".join(",".join(row.values()) + "\n" for row in rows)).encode()


def parquet(rows: list[dict[str, Any]]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue().to_pybytes()


KINDS: dict[str, Callable[[list[Any]], bytes]] = {
    "d.jsonl": jsonl,
    "d.ndjson": jsonl,
    "d.json": lambda rows: json.dumps(rows).encode(),
    "d.csv": csv,
    "d.parquet": parquet,
    "d.jsonl.gz": lambda rows: gzip.compress(jsonl(rows)),
    "d.json.gz": lambda rows: gzip.compress(json.dumps(rows).encode()),
    "d.csv.gz": lambda rows: gzip.compress(csv(rows)),
}


def names(source: str) -> list[str]:
    return [row.name.removeprefix(source) for row in open_source(source, is_row=lambda record: False)]


@pytest.mark.parametrize("kind", KINDS)
def test_files_of_every_kind_give_the_same_rows(kind: str, tmp_path: Path) -> None:
    path = tmp_path / kind
    path.write_bytes(KINDS[kind](ROWS))
    assert [row.record for row in open_source(str(path), is_row=lambda record: False)] == ROWS
    place = "line {}" if "jsonl" in kind or "nd" in kind else "row {}"
    first = 2 if "csv" in kind else 1
    place = "line {}" if "csv" in kind else place
    assert names(str(path)) == [f", {place.format(first + n)}" for n in range(3)]


@pytest.mark.parametrize("kind", KINDS)
def test_files_of_every_kind_in_a_store(kind: str) -> None:
    fsspec.filesystem("memory").pipe(f"/place/{kind}-one/{kind}", KINDS[kind](ROWS))
    for source in (f"memory://place/{kind}-one/{kind}", f"memory://place/{kind}-one"):
        assert [row.record for row in open_source(source, is_row=lambda record: False)] == ROWS


@pytest.mark.parametrize("case", CASES, ids=[f"{case.format}-{place}" for place, case in enumerate(CASES)])
def test_parquet_keeps_every_format(case: Any, tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    path.write_bytes(parquet([case.row]))
    loaded = load_dataset_rows(str(path))
    assert (loaded.format, loaded.rows[0].messages, loaded.rows[0].completions) == (
        case.format, case.messages, case.completions,
    )  # fmt: skip


def test_a_folder_is_its_data_files_in_order(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a/z.csv", "a/y.parquet", ".cache/x.jsonl", "dataset_info.json", "README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(KINDS[f"d{Path(name).suffix}"](ROWS) if Path(name).suffix != ".md" else b"# x")
    files = [str(tmp_path / name) for name in ("a/y.parquet", "a/z.csv", "b.jsonl")]
    assert source_files(str(tmp_path)) == files
    bad = {**ROWS[0], "chosen": "no"}
    (tmp_path / "b.jsonl").write_bytes(jsonl([ROWS[0], bad]))
    assert load_dataset_rows(str(tmp_path)).skipped == {"chosen equals rejected": [f"{files[2]}, line 2"]}


def test_a_line_that_cannot_be_read_is_one_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(jsonl(ROWS[:1]) + b'{"prompt": \n\xff\n\n' + b"9" * 5000 + b"\n" + jsonl(ROWS[1:]))
    loaded = load_dataset_rows(str(path))
    assert len(loaded.rows) == 3
    assert loaded.skipped == {
        "not valid JSON": [f"{path}, line 2, column 12"],
        "not UTF-8": [f"{path}, line 3"],
        "JSON that cannot be read": [f"{path}, line 5"],
    }
    with pytest.raises(DataError, match="line 2, column 12: Expecting value"):
        load_dataset_rows(str(path), on_bad_rows="fail")


def test_csv_cells(tmp_path: Path) -> None:
    """Quotes, line breaks, empty cells, numbers where the column is not text, and rows that do not fit."""
    path = tmp_path / "d.csv"
    path.write_bytes(
        b"\xef\xbb\xbfprompt,completion,label,score\r\n"
        b'"a, ""b""\r\nc",x,True,7.5\r\n'
        b"[1],2,false,\r\n"
        b"one,two\r\n"
        b"\xff,x,true,1\r\n"
        b'p,"[1]",maybe,n/a\r\n'
    )
    rows = {row.place: row.record for row in open_source(str(path), is_row=lambda record: False)}
    assert rows["line 2"] == {"prompt": 'a, "b"\r\nc', "completion": "x", "label": True, "score": 7.5}
    assert rows["line 4"] == {"prompt": "[1]", "completion": "2", "label": False, "score": None}
    assert rows["line 5"].reason == "cells and columns differ in number"
    assert rows["line 6"].reason == "not UTF-8"
    assert rows["line 7"] == {"prompt": "p", "completion": "[1]", "label": "maybe", "score": "n/a"}


def test_a_cell_of_a_megabyte(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text(f"prompt,output\n{'x' * 1_000_000},y\n")
    assert len(load_dataset_rows(str(path)).rows[0].messages[0]["content"]) == 1_000_000


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("d.csv", b"", "the file is empty"),
        ("d.csv", b"prompt,prompt\na,b\n", "two columns are called prompt"),
        ("d.csv", b'prompt\n"a"b\n', "line 2: "),
        ("d.csv", b"prompt\n", "no rows"),
        ("d.parquet", b"PAR1 and no more", "not a whole Parquet file"),
        ("d.jsonl.gz", b"not gzip", "Not a gzipped file"),
        ("d.jsonl.gz", gzip.compress(jsonl(ROWS * 99))[:-9], "ended before"),
    ],
)
def test_files_that_are_refused(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=words):
        load_dataset_rows(str(path))


def test_a_json_file_over_the_stated_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rayalign.data.json_rows.MAX_JSON_BYTES", 100)
    path = tmp_path / "d.json"
    path.write_bytes(json.dumps(ROWS).encode())
    with pytest.raises(DataError, match="write it as JSONL or Parquet"):
        load_dataset_rows(str(path))


def test_dates_and_bytes_of_parquet_become_json(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    path.write_bytes(parquet([{"prompt": "x", "day": date(2024, 1, 2), "seen": [{"at": date(2024, 1, 3)}]}]))
    (row,) = load_dataset_rows(str(path)).rows
    assert row.metadata == {"day": "2024-01-02", "seen": [{"at": "2024-01-03"}]}


def test_sources_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*No such file"):
        load_dataset_rows(str(tmp_path / "none.jsonl"))
    with pytest.raises(DataError, match="no file in it ends with"):
        load_dataset_rows(str(tmp_path))
    with pytest.raises(DataError, match="no file in it ends with"):
        load_dataset_rows("memory://place/nowhere")
    with pytest.raises(DataError, match="no file system understands it"):
        load_dataset_rows("nosuchstore://bucket/d.jsonl")
    with pytest.raises(DataError, match="holds credentials"):
        load_dataset_rows("s3://user:secret@bucket/d.jsonl")


def test_rows_are_read_as_they_are_asked_for(tmp_path: Path) -> None:
    """A broken file behind good ones does not matter before it is reached."""
    (tmp_path / "a.jsonl").write_bytes(jsonl([{**ROWS[0], "n": n} for n in range(100)]))
    (tmp_path / "b.parquet").write_bytes(b"broken")
    stream = iter_dataset_rows(str(tmp_path))
    assert [next(stream.rows).metadata["n"] for _ in range(100)] == list(range(100))
    with pytest.raises(DataError, match=r"b\.parquet"):
        next(stream.rows)


def test_where_a_name_is_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "d.jsonl").touch()
    (tmp_path / "e.jsonl").touch()
    monkeypatch.chdir(tmp_path)
    beside = tmp_path / "beside"
    assert locate("d.jsonl", beside) == str(beside / "d.jsonl")
    assert locate("e.jsonl", beside) == "e.jsonl"
    assert locate("none/d.jsonl", beside) == "none/d.jsonl"
    for there in ("s3://b/d.jsonl", "owner/name", "owner/name@main:test", "hub:owner/name/config"):
        assert locate(there, beside) == there


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("owner/name", ("owner/name", None, None, None)),
        ("owner/name:test[:10%]", ("owner/name", None, None, "test[:10%]")),
        ("owner/name@refs/pr/3:test", ("owner/name", None, "refs/pr/3", "test")),
        ("hub:owner/na.me/main@1.0", ("owner/na.me", "main", "1.0", None)),
        ("data/prompts.jsonl", None),
        ("data/more/prompts.jsonl.gz", None),
        ("/data/prompts", None),
        ("prompts", None),
    ],
)
def test_hub_ids(source: str, parts: tuple[str | None, ...] | None) -> None:
    found = sources._hub(source)
    wanted = ("name", "config", "revision", "split")
    assert (found and tuple(found[part] for part in wanted)) == parts


OFFLINE = """
import sys
from rayalign.data.loading import load_dataset_rows
from rayalign.errors import DataError
try:
    loaded = load_dataset_rows(sys.argv[1])
    print(loaded.format, [row.messages[0]["content"] for row in loaded.rows])
except DataError as error:
    print(error)
"""
FILL = """
import sys
import datasets
datasets.load_dataset(sys.argv[1], split="train")
"""


@pytest.mark.slow
def test_the_hub_offline(tmp_path: Path) -> None:
    """Without a network a dataset in the cache is read, and for any other the error names what to do."""
    (tmp_path / "name").mkdir()
    (tmp_path / "name" / "train.jsonl").write_bytes(jsonl(ROWS))
    environment = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin"}

    def python(code: str, argument: str) -> str:
        command = [sys.executable, "-c", code, argument]
        return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout

    missing = python(OFFLINE, "owner/none@v1:test")
    assert "owner/none@v1:test: owner/none (split test) cannot be had from the hub" in missing
    assert "hf download --repo-type dataset owner/none --local-dir DIR" in missing and "HF_HOME" in missing
    python(FILL, str(tmp_path / "name"))
    cache = tmp_path / "home" / "datasets"
    (cache / "name").rename(cache / "owner___name")
    assert python(OFFLINE, "owner/name").startswith("preference ['Question 0?'")


def test_messages_in_csv_are_json(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    turns = json.dumps([user("x"), assistant("y")]).replace('"', '""')
    path.write_text(f'messages\n"{turns}"\n')
    (row,) = load_dataset_rows(str(path)).rows
    assert (row.messages, row.target) == ([user("x")], "y")
