"""A dataset as a Ray Dataset: workers read its files, row by row; the driver sees only the first rows."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import ray.data

from rayalign.data.dataset import BadRow
from rayalign.data.formats import DETECT_ROWS, FORMATS, Detection, choose_format, format_of, read_record
from rayalign.data.sources import open_source, source_units
from rayalign.records import JsonObject

BLOCK_ROWS = 256


def read_dataset(source: str, format: str = "auto") -> tuple[ray.data.Dataset, Detection]:
    """Rows of `name` (file and line), `row` (a `DatasetRow` as JSON) and `reason`: of the last two one is null.

    One task reads one file, so that large datasets want many. Workers must be able to open the source.

    Raises:
        DataError: the source cannot be opened, or its format not be told.
    """
    first = [(row.name, row.record) for row in itertools.islice(open_source(source, _is_row), DETECT_ROWS)]
    found = choose_format(format, first, source)
    units = [{"unit": unit} for unit in source_units(source)]
    files = ray.data.from_items(units, override_num_blocks=len(units))
    reader: Any = _read
    return files.map_batches(reader, batch_size=1, fn_kwargs={"format": found.format}), found


def _read(batch: dict[str, np.ndarray], format: str) -> Iterator[pa.Table]:
    for unit in batch["unit"]:
        rows = _rows(str(unit), format)
        while some := list(itertools.islice(rows, BLOCK_ROWS)):
            # A block without bad rows has the same types as one with some.
            columns = [pa.array(column, pa.string()) for column in zip(*some, strict=True)]
            yield pa.table(columns, names=["name", "row", "reason"])


def _rows(unit: str, format: str) -> Iterator[tuple[str, str | None, str | None]]:
    for source_row in open_source(unit, _is_row):
        for name, row in read_record(source_row.record, source_row.name, FORMATS[format]):
            if isinstance(row, BadRow):
                yield name, None, row.reason
            else:
                yield name, json.dumps(dataclasses.asdict(row)), None


def _is_row(record: JsonObject) -> bool:
    return format_of(record) is not None
