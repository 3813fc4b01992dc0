"""Rows of CSV and Parquet files, one at a time, each with its place in the file."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO

from rayalign.data.dataset import BadRow
from rayalign.errors import DataError
from rayalign.records import JsonObject

if TYPE_CHECKING:
    from _csv import Reader

    from pyarrow import DataType, NativeFile, RecordBatch, Table

BATCH_ROWS = 256
MAX_CELL = 1 << 30
NO_CELL = frozenset(("", "nan", "NaN", "<NA>", "NaT"))
"""What pandas writes where a cell is missing."""
NOT_TEXT_COLUMNS = {"score", "label", "kto_tag", "rank"}
"""Columns of a CSV file, like those called `score_...`, in which numbers, true and false are what they mean."""


def csv_rows(stream: BinaryIO, path: str, between: str = ",") -> Iterator[tuple[str, object]]:
    """(place, row) pairs: "line 7" where the row begins. The first line that is not blank names the columns.

    An empty cell is null. Space around the names of columns is none of them; one behind each comma, or before the
    first quote, is no part of the cells either.

    Args:
        between: what stands between two cells.

    Raises:
        DataError: no header, two columns of one name, a tab behind each comma, or a file that is not CSV.
    """
    # The default of 128 KiB per cell is for the whole process, and too little for a long answer.
    csv.field_size_limit(MAX_CELL)
    # What is not UTF-8 is told row by row.
    lines = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
    try:
        head = _to_first_words(lines, between)
        # `prompt, answer` and ` "prompt","answer"`: such a file is written with a space before the cells.
        first, *others = next(csv.reader(head[-1:], delimiter=between), []) or [""]
        spaced = any(name[:1] == " " for name in others) or re.match(' +"', first) is not None
        if tabbed := next((name for name in others if re.match(r" *[^\S ]", name)), None):
            found = f"{path}: a column called {tabbed!r}"
            remedy = "write it with commas alone, or with tabs alone under a name that ends with .tsv"
            raise DataError(found, "white space other than ' ' behind commas would be part of every cell", remedy)
        both = itertools.chain(head, lines)
        yield from _csv_rows(csv.reader(both, delimiter=between, strict=True, skipinitialspace=spaced), path)
    finally:
        # The stream is the caller's to close.
        lines.detach()


def _to_first_words(lines: Iterator[str], between: str) -> list[str]:
    """The lines up to the first in which a cell is not blank, or all."""
    head: list[str] = []
    for line in lines:
        head.append(line)
        if line.replace(between, "").strip():
            break
    return head


def _csv_rows(reader: Reader, path: str) -> Iterator[tuple[str, object]]:
    columns = _columns(reader, path)
    last = reader.line_num
    while (cells := _next_cells(reader, path)) is not None:
        if cells:
            yield f"line {last + 1}", _csv_row(columns, cells)
        last = reader.line_num


def _next_cells(reader: Reader, path: str) -> list[str] | None:
    """The next row; empty for a blank line, None behind the last."""
    line = reader.line_num + 1
    try:
        return next(reader, None)
    except csv.Error as error:
        why, remedy = "this is not CSV", "mend that line"
        if "expected after" in str(error):
            why = "behind the quote that closes a cell stands something else than the end of the cell"
            remedy = "write quotes within a cell twice, and no space between a closing quote and a comma"
        elif "unexpected end" in str(error):
            why, remedy = "a quote that opens there is never closed", "close it; write quotes within a cell twice"
        raise DataError(f"{path}, line {line}: {error}", why, remedy) from None


def _columns(reader: Reader, path: str) -> list[str]:
    """The names of the columns: the first row in which something stands."""
    columns: list[str] = []
    while not any(columns) and (cells := _next_cells(reader, path)) is not None:
        columns = [name.strip() for name in cells]
    if not any(columns):
        found = "no line in it names columns" if reader.line_num else "the file is empty"
        raise DataError(f"{path}: {found}", "the first line of a CSV file names its columns", "add it")
    if quoted := next((name for name in columns if name.startswith('"')), None):
        why = "a quote that stands behind something else does not open a cell"
        raise DataError(f"{path}: a column called {quoted}", why, "write no space before quotes")
    if len(columns) == 1 and (other := next((mark for mark in "\t;" if mark in columns[0]), None)):
        found = f"{path}: one column called {columns[0]!r}"
        remedy = "let its name end with .tsv" if other == "\t" else "write it with commas"
        raise DataError(found, f"{other!r} stands between its cells, and not a comma", remedy)
    if twins := sorted({name for name in columns if columns.count(name) > 1}):
        raise DataError(f"{path}: two columns are called {twins[0]}", "one would hide the other", "rename one")
    return columns


def _csv_row(columns: list[str], cells: list[str]) -> JsonObject | BadRow:
    if len(cells) != len(columns):
        found = f"{len(cells)} cells under {len(columns)} columns"
        return BadRow(
            "cells and columns differ in number", found, "cells cannot be told apart", "quote cells with commas"
        )
    if any("\udc80" <= char <= "\udcff" for cell in cells if not cell.isascii() for char in cell):
        return BadRow("not UTF-8")
    return {name: _cell(name, cell) for name, cell in zip(columns, cells, strict=True)}


def _cell(name: str, cell: str) -> object:
    if cell in NO_CELL:
        return None
    if name in NOT_TEXT_COLUMNS or name.startswith("score_"):
        try:
            return json.loads(cell.lower() if cell in ("True", "False") else cell)
        except (ValueError, RecursionError):
            return cell
    return cell


def parquet_rows(source: BinaryIO | NativeFile, path: str) -> Iterator[tuple[str, object]]:
    """(place, row) pairs: "row 3". `source` is a file to seek in.

    Raises:
        DataError: this is not a Parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(source) as file:
            for batch in file.iter_batches(batch_size=BATCH_ROWS):
                for row in batch_rows(batch):
                    number += 1
                    yield f"row {number}", row
    except pa.ArrowException as error:
        found = f"{path}: {str(error).splitlines()[0]}"
        raise DataError(found, "this is not a whole Parquet file", "write it anew") from None


def batch_rows(batch: RecordBatch | Table) -> Iterator[JsonObject | BadRow]:
    """The rows of some of Arrow's columns; one with a value that Python cannot hold is a `BadRow`.

    Such are dates beyond the year 9999, and texts that are not UTF-8.
    """
    try:
        rows = batch.to_pylist()
    except (ValueError, ArithmeticError):
        rows = (_one_row(batch, place) for place in range(batch.num_rows))
    texts = [field for field in batch.schema if _holds_json(field.type)]
    for row in rows:
        if not isinstance(row, BadRow):
            row |= {field.name: _unpacked(row[field.name], field.type) for field in texts}
        yield row


def _holds_json(kind: DataType) -> bool:
    """Whether a column's type is JSON as text, or holds it: the `datasets` library writes values of mixed types so."""
    import pyarrow as pa

    return isinstance(kind, pa.JsonType) or any(_holds_json(kind.field(i).type) for i in range(kind.num_fields))


def _unpacked(value: object, kind: DataType) -> object:
    """The value, with the JSON in it read."""
    import pyarrow as pa

    if isinstance(kind, pa.JsonType) and isinstance(value, str):
        with suppress(ValueError, RecursionError):
            return json.loads(value, strict=False)
    if pa.types.is_struct(kind) and isinstance(value, dict):
        return {field.name: _unpacked(value[field.name], field.type) for field in kind}
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return [_unpacked(item, kind.value_type) for item in value] if isinstance(value, list) else value
    return value


def _one_row(batch: RecordBatch | Table, place: int) -> JsonObject | BadRow:
    row: JsonObject = {}
    for name in batch.schema.names:
        try:
            row[name] = batch.column(name)[place].as_py()
        except (ValueError, ArithmeticError):
            return BadRow(f"{name} holds a value that cannot be read")
    return row
