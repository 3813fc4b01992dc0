"""Rows of JSON and JSONL files, one at a time, each with its place in the file."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

from rayalign.data.dataset import BadRow, printable
from rayalign.data.literals import is_turn
from rayalign.data.plain import object_of
from rayalign.errors import DataError
from rayalign.records import JsonObject

IsRow = Callable[[JsonObject], bool]
"""Tells whether an object that is a whole JSON file is one row, or holds the list of the rows."""
FORMATS = "give a JSON list of objects, or a JSONL file with one object per line"
BOM = b"\xef\xbb\xbf"
MAX_JSON_BYTES = 1 << 30
"""A JSON list is read whole; a larger one is refused. JSONL has no limit."""


def jsonl_rows(stream: BinaryIO, path: str, is_row: IsRow) -> Iterator[tuple[str, object]]:
    """(place, row) pairs: "line 7". A line that is not JSON, or not UTF-8, is a `BadRow`.

    Where the first line only begins a list or an object, or is a list of rows, the file is read as `json_rows` does.

    Raises:
        DataError: the file is empty, or is a list over several lines that cannot be read.
    """
    lead, first = 0, b""
    for first in stream:
        if first.removeprefix(BOM).strip():
            break
        lead += 1
    start = b"\n" * lead + first
    if not _begins(first):
        yield from _lines(itertools.chain(io.BytesIO(start), stream), path)
        return
    content = start + stream.read(MAX_JSON_BYTES + 1)
    if first.lstrip().startswith(b"[") or (len(content) <= MAX_JSON_BYTES and _values(content)):
        yield from json_rows(io.BytesIO(content), path, is_row)
    else:
        yield from _lines(itertools.chain(io.BytesIO(content), stream), path)


def _lines(lines: Iterable[bytes], path: str) -> Iterator[tuple[str, object]]:
    empty = True
    # Only "\n" ends a line: U+2028 and the like may stand in JSON strings.
    for number, line in enumerate(lines, 1):
        if number == 1:
            line = line.removeprefix(BOM)
        if line.strip():
            empty = False
            yield _row(line, number)
    if empty:
        raise DataError(f"{path}: the file is empty", "there is nothing to read", FORMATS)


def _begins(line: bytes) -> bool:
    """Whether a line is the beginning of a JSON value that ends on a later one, or a whole list of rows."""
    text = line.removeprefix(BOM).strip()
    if not text.startswith((b"[", b"{")):
        return False
    try:
        value = json.loads(text, strict=False)
    except json.JSONDecodeError as error:
        return error.pos >= len(error.doc) - 1
    except (ValueError, RecursionError):
        return False
    return isinstance(value, list) and any(isinstance(item, dict) and not is_turn(item) for item in value)


def _values(content: bytes) -> list[object] | None:
    """The JSON values that stand one behind the other, each over any number of lines; None of anything else."""
    read, found, place = json.JSONDecoder(strict=False, object_pairs_hook=object_of).raw_decode, [], 0
    try:
        text = content.removeprefix(BOM).decode().strip()
        while place < len(text):
            value, place = read(text, place)
            found.append(value)
            while place < len(text) and text[place].isspace():
                place += 1
    except (ValueError, RecursionError):
        return None
    return found


def json_rows(stream: BinaryIO, path: str, is_row: IsRow) -> Iterator[tuple[str, object]]:
    """(place, row) pairs: "row 3" of a JSON list; the file may also hold JSONL.

    An object with one list is that list, unless `is_row` says that it is itself a row; a table by columns is its rows.

    Raises:
        DataError: the file is empty, too large, not UTF-8, not JSON, or holds no rows.
    """
    content = stream.read(MAX_JSON_BYTES + 1)
    if len(content) > MAX_JSON_BYTES:
        why = "a JSON file is read whole, and this is too much for the memory of one process"
        raise DataError(f"{path}: more than {MAX_JSON_BYTES >> 20} MiB of JSON", why, "write it as JSONL or Parquet")
    text = _decoded(content, path)
    if not text.strip():
        raise DataError(f"{path}: the file is empty", "there is nothing to read", FORMATS)
    try:
        value = _loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            objects = _values(content) if _begins(text.lstrip().split("\n", 1)[0].encode()) else None
            rows = ((f"row {number}", row) for number, row in enumerate(objects or (), 1))
            yield from rows if objects else _lines(io.BytesIO(content), path)
            return
        bad = _broken(error, text.split("\n")[error.lineno - 1])
        raise bad.error(f"{path}, line {error.lineno}, column {error.colno}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: {error}", "this JSON cannot be read", FORMATS) from None
    for number, row in enumerate(_listed(value, path, is_row), 1):
        yield f"row {number}", row


def _listed(value: object, path: str, is_row: IsRow) -> list[object]:
    if isinstance(value, dict):
        table = _by_columns(value, path, is_row)
        if table is not None:
            return table
        if is_row(value):
            return [value]
        lists = [item for item in value.values() if isinstance(item, list)]
        if len(lists) != 1:
            keys = printable(", ".join(value)) or "none"
            found = f"{path}: an object with the keys: {keys}"
            raise DataError(found, f"it holds {len(lists)} lists, so the rows cannot be told", FORMATS)
        value = lists[0]
    if isinstance(value, BadRow):
        raise value.error(path)
    if not isinstance(value, list):
        raise DataError(f"{path}: found {type(value).__name__} {str(value)[:40]!r}", "these are not rows", FORMATS)
    return value


def _by_columns(value: JsonObject, path: str, is_row: IsRow) -> list[object] | None:
    """The rows of a table that stands in the file column by column, or under the rows' numbers; None of anything else.

    {"prompt": ["A", "B"]}  {"prompt": {"0": "A", "1": "B"}}  {"columns": ["prompt"], "data": [["A"], ["B"]]}
    {"0": {"prompt": "A"}, "1": {"prompt": "B"}}
    """
    names, lines = value.get("columns"), value.get("data")
    if isinstance(names, list) and isinstance(lines, list):
        whole = all(isinstance(line, list) and len(line) == len(set(map(str, names))) for line in lines)
        return [dict(zip(map(str, names), line, strict=True)) for line in lines] if whole else None
    cells = list(value.values())
    if cells and all(isinstance(cell, dict) and cell for cell in cells):
        if not is_row(value):
            return cells if all(map(is_row, cells)) else None
        if all(key.isdecimal() for key in cells[0]) and all(cell.keys() == cells[0].keys() for cell in cells):
            cells = [[cell[key] for key in cells[0]] for cell in cells]
    if not cells or not all(isinstance(cell, list) and cell and not _in_one_row(cell) for cell in cells):
        return None
    if "turns" in value or not is_row({name: cell[0] for name, cell in zip(value, cells, strict=True)}):
        return None
    if len({len(cell) for cell in cells}) > 1:
        counts = ", ".join(f"{name}: {len(cell)}" for name, cell in zip(value, cells, strict=True))
        why = "a table by columns has as many values in each"
        raise DataError(f"{path}: columns of different lengths ({printable(counts)})", why, FORMATS)
    return [dict(zip(value, line, strict=True)) for line in zip(*cells, strict=True)]


def _in_one_row(cell: list[object]) -> bool:
    """Whether a list is what a field of one row holds: a conversation."""
    return all(map(is_turn, cell))


def _decoded(content: bytes, path: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _not_utf8(error).error(f"{path}, line {line}") from None


def _row(line: bytes, number: int) -> tuple[str, object]:
    place = f"line {number}"
    try:
        text = line.decode().rstrip("\r\n")
        return place, _loads(text)
    except UnicodeDecodeError as error:
        return place, _not_utf8(error)
    except json.JSONDecodeError as error:
        return f"{place}, column {error.colno}", _broken(error, text)
    except (ValueError, RecursionError) as error:
        return place, BadRow("JSON that cannot be read", str(error), "this JSON cannot be read", FORMATS)


def _loads(text: str) -> object:
    """Strict about structure, but control characters such as NUL may stand in strings as they are.

    An object that says two things under one key is a `BadRow` in its place.
    """
    return json.loads(text, strict=False, object_pairs_hook=object_of)


def _not_utf8(error: UnicodeDecodeError) -> BadRow:
    found = f"byte 0x{error.object[error.start]:02x} is not UTF-8"
    return BadRow("not UTF-8", found, "JSON is UTF-8 text", "save the file as UTF-8")


def _broken(error: json.JSONDecodeError, line: str) -> BadRow:
    start = max(0, error.colno - 21)
    found = f"{error.msg}, at {line[start : start + 40]!r}"
    return BadRow("not valid JSON", found, "this is not valid JSON", "mend or remove that line")
