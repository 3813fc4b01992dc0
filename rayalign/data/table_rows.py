"""Rows of CSV and Parquet files, one at a time, each with its place in the file."""

from __future__ import annotations

import csv
import io
import itertools
import json
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
    """(place, row) pairs: "line 7" where the row begins. The first line names the columns; an empty cell is null.

    Space around the names of columns is none of them; one behind each comma is no part of the cells either.

    Args:
        between: what stands between two cells.

    Raises:
        DataError: no header, two columns of one name, or a file that is not CSV.
    """
    # The default of 128 KiB per cell is for the whole process, and too little for a long answer.
    csv.field_size_limit(MAX_CELL)
    # What is not UTF-8 is told row by row.
    lines = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
    try:
        first = next(lines, "")
        # `prompt, answer`: such a file is written with a space behind each comma.
        spaced = any(name[:1] == " " for name in next(csv.reader([first], delimiter=between), [])[1:])
        both = itertools.chain([first], lines)
        yield from _csv_rows(csv.reader(both, delimiter=between, strict=True, skipinitialspace=spaced), path)
    finally:
        # The stream is the caller's to close.
        lines.detach()


def _csv_rows(reader: Reader, path: str) -> Iterator[tuple[str, object]]:
    columns = [name.strip() for name in next(reader, [])]
    if not any(columns):
        raise DataError(f"{path}: the file is empty", "the first line of a CSV file names its columns", "add it")
    if len(columns) == 1 and (other := next((mark for mark in "\t;" if mark in columns[0]), None)):
        found = f"{path}: one column called {columns[0]!r}"
        remedy = "let its name end with .tsv" if other == "\t" else "write it with commas"
        raise DataError(found, f"{other!r} stands between its cells, and not a comma", remedy)
    if twins := sorted({name for name in columns if columns.count(name) > 1}):
        raise DataError(f"{path}: two columns are called {twins[0]}", "one would hide the other", "rename one")
    last = reader.line_num
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{path}, line {last + 1}: {error}", "this is not CSV", "mend that line") from None
        if cells is None:
            return
        if cells:
            yield f"line {last + 1}", _csv_row(columns, cells)
        last = reader.line_num


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
