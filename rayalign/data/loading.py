"""Datasets: from a source of any format to `DatasetRow`s, with what could not be read counted by reason."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from rayalign.data.beside import texts_beside
from rayalign.data.dataset import BadRow, DatasetRow
from rayalign.data.fields import NO_FIELD
from rayalign.data.formats import DETECT_ROWS, FORMATS, NO_NAMES, Format, choose_format, format_of, read_record
from rayalign.data.own_names import OwnNames
from rayalign.data.scratch_db import ScratchDb
from rayalign.data.sources import SourceRow, open_source, split_note
from rayalign.errors import DataError

OnBadRows = Literal["skip", "fail"]


@dataclass(slots=True)
class RowStream:
    """A dataset read row by row. What else it has is complete when `rows` is exhausted."""

    rows: Iterator[DatasetRow]
    format: str
    reason: str
    """Why it is this format, in words, for people."""
    skipped: dict[str, list[str]] = field(default_factory=dict)
    """Reason -> rows, or answers of rows, that are left out ("prefs.jsonl, line 7, answer 2")."""
    read: int = 0
    """Rows looked at, the skipped ones included."""
    duplicates: int = 0
    """Rows that `distinct` left out."""
    beside: Counter[str] = field(default_factory=Counter)
    """Rows in which a field of this name is a text and metadata."""
    remedy: str = ""
    """What can be done about the first rows left out for which something can."""

    def distinct(self) -> Iterator[DatasetRow]:
        """`rows`, without those that are the same as an earlier one, answers and metadata included."""
        seen = ScratchDb("CREATE TABLE seen (digest BLOB PRIMARY KEY) WITHOUT ROWID")
        for row in self.rows:
            digest = hashlib.sha256(repr(row).encode("utf-8", "surrogatepass")).digest()
            if seen.all("INSERT OR IGNORE INTO seen VALUES (?) RETURNING 1", (digest,)):
                yield row
            else:
                self.duplicates += 1


@dataclass(frozen=True, slots=True)
class DatasetRows:
    """A dataset in memory."""

    rows: list[DatasetRow]
    format: str
    reason: str
    skipped: dict[str, list[str]]
    duplicates: int
    """Rows that are left out because an earlier one is the same, answers and metadata included."""
    beside: Counter[str]
    """As of `RowStream`."""


def iter_dataset_rows(
    source: str, format: str = "auto", on_bad_rows: OnBadRows = "skip", own: OwnNames = NO_NAMES
) -> RowStream:
    """Open a source and read it row by row, in constant memory.

    Args:
        source: see `sources.open_source`.
        format: a name in `formats.FORMATS`, or `auto`: told from the first rows.
        on_bad_rows: leave rows that cannot be used out and count them, or raise at the first one.
        own: what the source calls the fields. Where it names the prompt, other fields may say something else.

    Raises:
        DataError: the source cannot be opened, its format cannot be told, a bad row (`fail`), or no good one.
    """
    found_rows = open_source(source, is_row=lambda record: format_of(own.row(record)) is not None)
    records = (row._replace(record=own.row(row.record)) for row in found_rows) if own.names else iter(found_rows)
    first = list(itertools.islice(records, DETECT_ROWS))
    if not first:
        raise DataError(f"{source}: no rows", "there is nothing to read", "give a source with rows")
    found = choose_format(format, [(row.name, row.record) for row in first], source, own)
    stream = RowStream(iter(()), found.format, found.reason + split_note(source))
    form = dataclasses.replace(FORMATS[found.format], is_named="prompt" in own.names)
    naming = own.remedy([row.record for row in first])
    stream.rows = _rows(itertools.chain(first, records), form, stream, source, on_bad_rows, naming)
    return stream


def _rows(
    records: Iterable[SourceRow], form: Format, stream: RowStream, source: str, on_bad_rows: str, naming: str
) -> Iterator[DatasetRow]:
    good = 0
    for source_row in records:
        for name, row in read_record(source_row.record, source_row.name, form):
            stream.read += 1
            if isinstance(row, BadRow):
                if on_bad_rows == "fail":
                    raise row.error(name)
                stream.skipped.setdefault(row.reason, []).append(name)
                stream.remedy = stream.remedy or (naming if row.reason.startswith(NO_FIELD) else row.remedy)
                continue
            for reason, answers in row.left_out.items():
                if on_bad_rows == "fail":
                    raise BadRow(reason).error(f"{name}, {answers[0]}")
                stream.skipped.setdefault(reason, []).extend(f"{name}, {answer}" for answer in answers)
            good += 1
            stream.beside.update(texts_beside(row.metadata))
            yield row
    if not good:
        raise no_good_row(source, stream)


def no_good_row(source: str, stream: RowStream) -> DataError:
    counts = ", ".join(f"{reason}: {len(names)}" for reason, names in stream.skipped.items())
    return DataError(
        f"{source}: none of {stream.read} rows can be read as {stream.format}",
        counts,
        stream.remedy or f"mend the rows, or name another format than {stream.format}",
    )


def load_dataset_rows(
    source: str, format: str = "auto", on_bad_rows: OnBadRows = "skip", own: OwnNames = NO_NAMES
) -> DatasetRows:
    """`iter_dataset_rows` as a list, with identical rows once."""
    stream = iter_dataset_rows(source, format, on_bad_rows, own)
    rows = list(stream.distinct())
    return DatasetRows(rows, stream.format, stream.reason, stream.skipped, stream.duplicates, stream.beside)
