"""Files that are not what their name says, texts in UTF-16, prompts in text files, and JSON over several lines."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from rayalign.data.loading import load_dataset_rows
from rayalign.data.prompts import load_prompt_rows
from rayalign.errors import DataError

ROWS = [{"prompt": "A"}, {"prompt": "Bé"}, {"prompt": "C"}]
LINES = "\n".join(map(json.dumps, ROWS))
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
PACKED = gzip.compress(("".join(f'{{"prompt": "{n * 7919 % 10007}"}}\n' for n in range(2000))).encode())


def prompts(tmp_path: Path, name: str, content: bytes) -> list[str]:
    path = tmp_path / name
    path.write_bytes(content)
    return [row.messages[0]["content"] for row in load_prompt_rows(str(path)).rows]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("d.jsonl", json.dumps(ROWS, indent=2)),
        ("d.jsonl", "\n\n[\n" + ",\n".join(map(json.dumps, ROWS)) + "\n]\n"),
        ("d.jsonl", "[" + ",\n".join(map(json.dumps, ROWS)) + "]"),
        ("d.jsonl", json.dumps(ROWS)),
        ("d.jsonl", "\n".join(json.dumps(row, indent=2) for row in ROWS)),
        ("d.json", "\n".join(json.dumps(row, indent=2) for row in ROWS)),
        ("d.jsonl", json.dumps({"prompt": ["A", "Bé", "C"]}, indent=2)),
        ("d.txt", "A\n\n  \nBé\r\nC"),
        ("d.tsv", "prompt\tn\nA\t1\nBé\t2\n\nC\t\n"),
        ("d.csv", "prompt,n\nA,1\nBé,2\nC,\n"),
        ("d.jsonl", LINES),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_the_same_prompts(name: str, text: str, encoding: str, tmp_path: Path) -> None:
    assert prompts(tmp_path, name, text.encode(encoding)) == ["A", "Bé", "C"]
    assert prompts(tmp_path, f"{name}.gz", gzip.compress(text.encode(encoding))) == ["A", "Bé", "C"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        *((f"d.{kind}", POINTER, "git lfs pull") for kind in ("parquet", "jsonl", "json", "csv", "txt")),
        ("d.jsonl", b"/annex/objects/SHA256E-s1--ab.jsonl\n", "git annex get"),
        ("d.jsonl", b"<!DOCTYPE html>\n<html>", "a page was saved in place of the data"),
        ("d.parquet", b"\n<html><head>", "a page was saved in place of the data"),
        ("d.jsonl", PACKED, "let its name end with .gz"),
        ("d.jsonl", b"PAR1....", "let its name end with .parquet"),
        ("d.xlsx", b"PK\x03\x04....", "save it as CSV"),
        ("d.jsonl.gz", PACKED[:-500], "not whole"),
        ("d.jsonl.gz", PACKED[:300] + b"\xff" * 60 + PACKED[360:], "not whole"),
        ("d.jsonl.gz", b"not gzip", "mend its name"),
        ("d.csv", "prompt,n\nA,1\n".encode("utf-16")[:-1], "not a whole UTF-16 text"),
        ("d.csv", b"prompt\tn\nA\t1\n", "let its name end with .tsv"),
        ("d.csv", b"prompt;n\nA;1\n", "write it with commas"),
        ("d.txt", LINES.encode(), "let its name end with .jsonl"),
        ("d.txt", json.dumps(ROWS, indent=2).encode(), "its lines are JSON"),
        ("d.txt", b"\n \n", "write one prompt a line"),
        ("d.jsonl", json.dumps(ROWS, indent=2)[:-3].encode(), "d.jsonl, line 10, column"),
    ],
)
def test_files_that_are_refused(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        prompts(tmp_path, name, content)
    assert words in str(caught.value)
    assert all((caught.value.found, caught.value.why, caught.value.remedy))


def test_lines_that_only_look_like_the_beginning_of_a_file(tmp_path: Path) -> None:
    """A first line that is cut is one bad line of JSONL, and is told with its place."""
    with pytest.raises(DataError, match="line 1, column 16"):
        prompts(tmp_path, "d.jsonl", b'{"prompt": "A",\n' + LINES.encode())


def test_a_line_of_text_that_is_not_utf_8_is_counted(tmp_path: Path) -> None:
    (tmp_path / "d.txt").write_bytes(b"A\n\xff\n[note] B\n")
    rows = load_prompt_rows(str(tmp_path / "d.txt"))
    assert [row.messages[0]["content"] for row in rows.rows] == ["A", "[note] B"]
    assert rows.left_out.names == {"not UTF-8": ["line 2"]}


def test_text_files_in_a_folder_are_no_data(tmp_path: Path) -> None:
    (tmp_path / "LICENSE.txt").write_text("Free.")
    assert prompts(tmp_path, "d.jsonl", LINES.encode()) == ["A", "Bé", "C"]
    assert len(list(load_prompt_rows(str(tmp_path)).rows)) == 3


def test_a_source_that_is_not_there_is_named_as_typed() -> None:
    for source in ("none.txt", "data/none.jsonl", "~/none.jsonl"):
        with pytest.raises(DataError) as caught:
            load_prompt_rows(source)
        assert repr(source) in caught.value.found and caught.value.why


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("d.csv", 'prompt, output\nHi, A\n"a, b", "c, d"\n'),
        ("d.csv", '"prompt", "output"\n"Hi", "A"\n"a, b", "c, d"\n'),
        ("d.csv", ' prompt ,output\t\nHi,A\n"a, b","c, d"\n'),
        ("d.csv", ' "prompt","output"\nHi,A\n "a, b","c, d"\n'),
        ("d.csv", '\nprompt,output\nHi,A\n"a, b","c, d"\n'),
        ("d.csv", ' \r\n,\r\nprompt, output\r\nHi, A\r\n"a, b", "c, d"\r\n'),
        ("d.tsv", "prompt\t output \nHi\tA\na, b\tc, d\n"),
    ],
)
def test_space_around_the_names_of_columns(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    rows = load_prompt_rows(str(tmp_path / name)).rows
    assert [(row.messages[0]["content"], row.target) for row in rows] == [("Hi", "A"), ("a, b", "c, d")]


@pytest.mark.parametrize(
    ("text", "found", "remedy"),
    [
        (' "prompt" , "output"\nHi,A\n', "d.csv, line 1: ',' expected", "no space between a closing quote and a comma"),
        ('"prompt" ,"output"\nHi,A\n', "d.csv, line 1: ',' expected", "no space between a closing quote and a comma"),
        ('\nprompt,output\n"Hi" ,A\n', "d.csv, line 3: ',' expected", "no space between a closing quote and a comma"),
        ('"prompt,output\nHi,A\n', "d.csv, line 1: unexpected end", "close it"),
        ('prompt,output\nHi,A\n"B,C\n', "d.csv, line 3: unexpected end", "close it"),
        ('"prompt\n1", "output"\nHi, A\n', """d.csv: a column called \"output\"""", "no space before quotes"),
        ("prompt,\toutput\nHi,\tA\n", r"a column called '\toutput'", "commas alone, or with tabs alone"),
        ("prompt, \toutput\nHi, \tA\n", r"a column called ' \toutput'", "commas alone, or with tabs alone"),
        ("", "d.csv: the file is empty", "add it"),
        ("\n", "d.csv: no line in it names columns", "add it"),
        ("\n \n,\n", "d.csv: no line in it names columns", "add it"),
    ],
)
def test_headers_that_are_refused(text: str, found: str, remedy: str, tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text(text)
    with pytest.raises(DataError) as caught:
        load_prompt_rows(str(tmp_path / "d.csv"))
    assert found in caught.value.found and caught.value.why and remedy in caught.value.remedy


def test_space_in_cells_is_kept_where_the_header_has_none(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("prompt,output\n Hi, A\n")
    (row,) = load_prompt_rows(str(tmp_path / "d.csv")).rows
    assert (row.messages[0]["content"], row.target) == (" Hi", " A")


TWICE = '{"prompt": "A", "prompt": "B"}'
DEEP = '{"messages": [{"role": "user", "content": "A", "content": "B"}]}'


@pytest.mark.parametrize("odd", [TWICE, DEEP])
def test_a_key_that_stands_twice_is_counted(odd: str, tmp_path: Path) -> None:
    good = '{"prompt": "C", "prompt": "C"}'
    for name, text in (
        ("d.jsonl", f"{good}\n{odd}\n"),
        ("d.json", f"[{good}, {odd}]"),
        ("d.json", f"{good}\n{odd}\n"),
        ("e.jsonl", f"[{good},\n{odd}]"),
    ):
        (tmp_path / name).write_text(text)
        found = load_dataset_rows(str(tmp_path / name))
        assert [row.messages[0]["content"] for row in found.rows] == ["C"]
        assert [reason for reason, names in found.skipped.items() if len(names) == 1] == ["a key of JSON stands twice"]
        with pytest.raises(DataError, match="stands twice, and says two things"):
            load_dataset_rows(str(tmp_path / name), on_bad_rows="fail")
    (tmp_path / "one.json").write_text(odd)
    with pytest.raises(DataError, match="stands twice"):
        load_dataset_rows(str(tmp_path / "one.json"))
