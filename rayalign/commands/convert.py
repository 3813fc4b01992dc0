"""From one dataset format to another, row by row. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

from rayalign.config.base import FieldName
from rayalign.data.beside import beside_note
from rayalign.data.loading import OnBadRows, iter_dataset_rows
from rayalign.data.own_names import OwnNames
from rayalign.data.writers import WRITERS
from rayalign.errors import DataError
from rayalign.stopping import check
from rayalign.store.files import expanded
from rayalign.store.folder import Folder
from rayalign.store.writable import explained

NAMED = 5
"""Rows that are named for each reason."""


def convert(
    source: str,
    to: str,
    out: Path,
    say: Callable[[str], None],
    *,
    format: str = "auto",
    on_bad_rows: OnBadRows = "skip",
    own: Sequence[str] = (),
) -> int:
    """Write `source` as JSONL in the format `to`; the file appears whole or not at all. Returns the rows written.

    Args:
        own: fields that the source has under names of its own: "chosen=good".

    Raises:
        DataError: see `iter_dataset_rows`; nothing can be written in that format; `out` is the source.
    """
    if to not in WRITERS:
        raise DataError(f"--to {to}", "no rows can be written in this format", f"use one of {', '.join(WRITERS)}")
    if out.suffix != ".jsonl":
        raise DataError(f"--out {out}", "rows are written as JSONL", "give a name that ends with .jsonl")
    if out.exists() and expanded(source).exists() and out.samefile(expanded(source)):
        raise DataError(f"--out {out}", "it is the source", "give another name")
    stream = iter_dataset_rows(source, format, on_bad_rows, _own_names(own))
    say(f"{source}: format {stream.format} ({stream.reason})")
    write, lost, written, rows = WRITERS[to], Counter[str](), 0, 0
    with explained(out, "--out {}", "give a place that may be written", DataError), Folder(out).writing() as file:
        for row in stream.rows:
            check()
            rows += 1
            for record in write(row, lost):
                file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
                written += 1
        if not written:
            reasons = ", ".join(f"{what}: {count}" for what, count in lost.items() if count)
            raise DataError(f"{source}: none of {rows} rows can be written as {to}", reasons, "choose another format")
    for reason, names in stream.skipped.items():
        more = f", and {len(names) - NAMED} more" if len(names) > NAMED else ""
        say(f"{len(names)} left out, {reason}: {'; '.join(names[:NAMED])}{more}")
    if stream.remedy:
        say(f"    remedy: {stream.remedy}")
    if note := beside_note(stream.beside):
        say(note)
    for what, count in lost.items():
        if count:
            say(f"lost, {what}: {count}")
    say(f"{out}: {written} rows")
    return written


def _own_names(given: Sequence[str]) -> OwnNames:
    pairs = [(name, own) for name, _, own in (one.partition("=") for one in given)]
    known = get_args(FieldName)
    for one, (name, own) in zip(given, pairs, strict=True):
        if name not in known or not own:
            remedy = f"write --field FIELD=OWN, FIELD one of {', '.join(known)}"
            raise DataError(f"--field {one}", "it names no field of a format and the source's own name of it", remedy)
    return OwnNames(dict(pairs), "--field")
