"""Prompts: read a source. Pure Python; the tokenizer comes in `data/chat.py`.

A source is anything that `data/sources.py` opens, in any format of `data/formats.py`. Of plain prompts the prompt is
looked for in the fields `messages`, `prompt`, `instruction` (+ `input`) and `turns`, in this order, or in the field
that the config names. The target (SFT answer) is a conversation's closing assistant turn, else the first text among
`target`, `output`, `response`, `completion`, `answer`. All other fields, ids included, become metadata.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rayalign.data.dataset import BadRow
from rayalign.data.formats import (
    DETECT_ROWS,
    FORMATS,
    PROMPT_FORMATS,
    Detection,
    Format,
    choose_format,
    format_of,
    read_record,
)
from rayalign.data.readers import read_prompt
from rayalign.data.sources import open_source
from rayalign.errors import DataError
from rayalign.records import Message, prompt_id


@dataclass(frozen=True, slots=True)
class PromptRow:
    """One prompt of a source, before tokenising."""

    id: str
    """Hash of the messages (`records.prompt_id`)."""
    messages: list[Message]
    """The conversation up to the turn that the model answers."""
    target: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PromptRows:
    """The distinct prompts of a source, in its order, and what did not become one."""

    rows: list[PromptRow]
    duplicates: int
    """Rows merged into an earlier row with the same messages."""
    skipped: dict[str, list[str]]
    """Reason -> names of the rows that were dropped for it ("line 7", "row 3")."""
    found: Detection
    """The source's format."""


def load_prompt_rows(source: str, field: str = "auto", format: str = "auto") -> PromptRows:
    """Read the prompts of a source (see `sources.open_source`).

    Args:
        field: the field that holds the prompt; `auto` where the format tells.
        format: one of `formats.FORMATS`, or `auto`.

    Raises:
        DataError: the source cannot be read, a row is not of its format, or no usable prompt is left.
    """
    rows = open_source(source, is_row=lambda record: field in record or format_of(record) is not None)
    return _collect(((row.name, row.record) for row in rows), source, field, format)


def rows_from_records(records: Iterable[Mapping[str, Any]], where: str, field: str = "auto") -> PromptRows:
    """The same for objects that are already in memory; `where` names them in errors."""
    named = ((f"{where}, row {number}", record) for number, record in enumerate(records, 1))
    return _collect(named, where, field, "auto")


def _collect(named: Iterable[tuple[str, Any]], where: str, field: str, format: str) -> PromptRows:
    first = list(itertools.islice(named := iter(named), DETECT_ROWS))
    if not first:
        raise DataError(f"{where}: no rows", "there is nothing to sample from", "give a file with at least two prompts")
    form, found = _format(first, where, field, format)
    rows: dict[str, PromptRow] = {}
    skipped: dict[str, list[str]] = {}
    total = duplicates = 0
    for record_name, record in itertools.chain(first, named):
        for name, row in read_record(record, record_name, form):
            total += 1
            if isinstance(row, BadRow):
                if row.found:
                    raise row.error(name)
                skipped.setdefault(row.reason, []).append(name.removeprefix(f"{where}, "))
                continue
            identity = prompt_id(row.messages)
            known = rows.get(identity)
            duplicates += known is not None
            if known is None or (known.target is None and row.target is not None):
                metadata = row.metadata if known is None else known.metadata
                rows[identity] = PromptRow(identity, row.messages, row.target, metadata)
    if not rows:
        counts = ", ".join(f"{reason}: {len(names)}" for reason, names in skipped.items())
        raise DataError(f"{where}: none of {total} rows has a usable prompt", counts, "fill in the prompts")
    return PromptRows(list(rows.values()), duplicates, skipped, found)


def _format(first: list[tuple[str, Any]], where: str, field: str, format: str) -> tuple[Format, Detection]:
    if field != "auto":
        plain = FORMATS["prompts"]
        reader = Format(lambda record: read_prompt(record, (field,)), plain.looks_so, plain.sign)
        return reader, Detection("prompts", f"prompts.field is {field}")
    found = choose_format(format, first, where)
    # One file may have prompts in fields of several names.
    plain = format == "auto" and found.format in PROMPT_FORMATS
    return FORMATS["prompts" if plain else found.format], found
