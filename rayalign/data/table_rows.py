"""Rows of CSV and Parquet files, one at a time, each with its place in the file."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

from rayalign.data.dataset import BadRow
from rayalign.errors import DataError
from rayalign.records import JsonObject

if TYPE_CHECKING:
    from _csv import Reader

    from pyarrow import NativeFile

BATCH_ROWS = 256
MAX_CELL = 1 << 30
NOT_TEXT_COLUMNS = {"score", "label", "rank", "messages", "chosen", "rejected", "completion", "completions", "answers"}
"""Columns of a CSV file in which JSON (numbers, true and false, lists of objects) stands for what it means."""
_NOT_JSON = re.compile(r"timestamp|date|time|duration|decimal|binary")


def csv_rows(stream: BinaryIO, path: str) -> Iterator[tuple[str, object]]:
    """(place, row) pairs: "line 7" where the row begins. The first line names the columns; an empty cell is null.

    Raises:
        DataError: no header, two columns of one name, or a file that is not CSV.
    """
    # The default of 128 KiB per cell is for the whole process, and too little for a long answer.
    csv.field_size_limit(MAX_CELL)
    # What is not UTF-8 is told row by row.
    lines = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
    try:
        yield from _csv_rows(csv.reader(lines, strict=True), path)
    finally:
        # The stream is the caller's to close.
        lines.detach()


def _csv_rows(reader: Reader, path: str) -> Iterator[tuple[str, object]]:
    columns = next(reader, [])
    if not any(columns):
        raise DataError(f"{path}: the file is empty", "the first line of a CSV file names its columns", "add it")
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
    if not cell:
        return None
    if name in NOT_TEXT_COLUMNS or name.startswith("score_"):
        try:
            value = json.loads(cell.lower() if cell in ("True", "False") else cell)
        except ValueError:
            return cell
        # A bare word or number in a column of answers is an answer.
        if isinstance(value, list) or name in ("score", "label", "rank") or name.startswith("score_"):
            return value
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
            odd = [column.name for column in file.schema_arrow if _NOT_JSON.search(str(column.type))]
            for batch in file.iter_batches(batch_size=BATCH_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield f"row {number}", {**row, **{name: _plain(row[name]) for name in odd}}
    except pa.ArrowException as error:
        found = f"{path}: {str(error).splitlines()[0]}"
        raise DataError(found, "this is not a whole Parquet file", "write it anew") from None


def _plain(value: object) -> object:
    """JSON values for what JSON has none for: dates and times as in ISO 8601, bytes and decimals as text."""
    return json.loads(json.dumps(value, default=lambda odd: odd.isoformat() if hasattr(odd, "isoformat") else str(odd)))
