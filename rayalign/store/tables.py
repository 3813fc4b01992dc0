"""Parquet files that are written and read in pieces."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import IO, TYPE_CHECKING

from rayalign.records import JsonObject
from rayalign.store.files import FileFacts, Place
from rayalign.store.folder import Folder

if TYPE_CHECKING:
    import pyarrow as pa
    from _typeshed import ReadableBuffer


def parquet_bytes(rows: Sequence[Mapping[str, object]], schema: pa.Schema) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), buffer)
    return buffer.getvalue()


def read_parquet(path: Place) -> list[JsonObject]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    return pq.ParquetFile(pa.BufferReader(Folder(path).read_bytes())).read(use_threads=False).to_pylist()


def write_table(path: Folder, rows: Iterable[Mapping[str, object]], schema: pa.Schema, row_group: int) -> FileFacts:
    """Write rows as they come, `row_group` of them at a time; returns what a commit says of the file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    source, count = iter(rows), 0
    with path.writing() as file:
        sink = _Hashing(file)
        with pq.ParquetWriter(pa.PythonFile(sink, mode="w"), schema) as writer:
            while some := list(islice(source, row_group)):
                writer.write_table(pa.Table.from_pylist(some, schema=schema))
                count += len(some)
    return {"bytes": sink.bytes, "sha256": sink.digest.hexdigest(), "rows": count}


def read_slice(path: Folder, start: int, count: int) -> list[JsonObject]:
    """Rows start .. start + count - 1, as far as there are any; only their row groups are read."""
    import pyarrow.parquet as pq

    with path.reading() as source:
        file = pq.ParquetFile(source)
        groups, first, skipped = [], 0, 0
        for group in range(file.num_row_groups):
            size = file.metadata.row_group(group).num_rows
            if first < start + count and first + size > start:
                groups.append(group)
            elif not groups:
                skipped += size
            first += size
        return file.read_row_groups(groups).slice(start - skipped, count).to_pylist() if groups else []


class _Hashing:
    """A sink that counts and hashes what it passes on to `file`."""

    closed = False

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest, self.bytes = hashlib.sha256(), 0

    def write(self, data: ReadableBuffer) -> int:
        content = bytes(data)
        self.digest.update(content)
        self.bytes += len(content)
        self._file.write(content)
        return len(content)

    def tell(self) -> int:
        return self.bytes

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        pass
