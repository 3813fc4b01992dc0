"""Prompts: read a source. Pure Python; the tokenizer comes in `data/token_ids.py`.

A source is anything that `data/sources.py` opens, in any format of `data/formats.py`. Of plain prompts the prompt is
looked for in the fields of `fields.PROMPT_FIELDS`, in their order, or in the field that the config names. The target
(SFT answer) is a conversation's closing assistant turn, else the first answer among `target`, `output`, `response`,
`completion`, `answer`. All other fields, ids included, become metadata.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from rayalign.data.beside import texts_beside
from rayalign.data.dataset import BadRow, LeftOut
from rayalign.data.fields import Row
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
from rayalign.data.own_names import OwnNames
from rayalign.data.readers import read_prompt
from rayalign.data.sources import open_source, split_note
from rayalign.errors import DataError
from rayalign.records import JsonObject, Message, prompt_id


@dataclass(frozen=True, slots=True)
class PromptRow:
    """One prompt of a source, before tokenising."""

    id: str
    """Hash of the messages (`records.prompt_id`)."""
    messages: list[Message]
    """The conversation up to the turn that the model answers."""
    target: str | None = None
    metadata: JsonObject = field(default_factory=dict)
    where: str = field(default="", compare=False)
    """The source and its row, for errors; empty where there is none."""


@dataclass(slots=True)
class PromptRows:
    """The prompts of a source, read row by row; what else it has is complete when `rows` is exhausted."""

    rows: Iterator[PromptRow]
    """The prompts in the source's order; the same one may come again, then perhaps with a target."""
    found: Detection
    """The source's format."""
    left_out: LeftOut = field(default_factory=LeftOut)
    """Rows without a usable prompt: names such as "line 7", "row 3"."""
    total: int = 0
    """Rows looked at."""
    beside: Counter[str] = field(default_factory=Counter)
    """Rows in which a field of this name is a text and metadata."""


def load_prompt_rows(source: str, field: str = "auto", format: str = "auto") -> PromptRows:
    """Open a source (see `sources.open_source`) and read its prompts one at a time.

    Args:
        field: the field that holds the prompt; `auto` where the format tells.
        format: one of `formats.FORMATS`, or `auto`.

    Raises:
        DataError: the source cannot be opened, or its format cannot be told; from `rows`: it cannot be read, a row is
            not of its format, or no row has a usable prompt.
    """
    rows = open_source(source, is_row=lambda record: field in record or format_of(record) is not None)
    prompts = _stream(((row.name, row.record) for row in rows), source, field, format)
    prompts.found = replace(prompts.found, reason=prompts.found.reason + split_note(source))
    return prompts


def rows_from_records(records: Iterable[Row], where: str, field: str = "auto") -> PromptRows:
    """The prompts of objects that are already in memory; `where` names them in errors."""
    named = ((f"{where}, row {number}", record) for number, record in enumerate(records, 1))
    return _stream(named, where, field, "auto")


def _stream(named: Iterable[tuple[str, object]], where: str, field: str, format: str) -> PromptRows:
    first = list(itertools.islice(named := iter(named), DETECT_ROWS))
    if not first:
        raise DataError(f"{where}: no rows", "there is nothing to sample from", "give a file with at least two prompts")
    form, found = _format(first, where, field, format)
    prompts = PromptRows(iter(()), found)
    prompts.rows = _read(itertools.chain(first, named), prompts, form, where)
    return prompts


def _read(named: Iterable[tuple[str, object]], prompts: PromptRows, form: Format, where: str) -> Iterator[PromptRow]:
    good = 0
    for record_name, record in named:
        for name, row in read_record(record, record_name, form):
            prompts.total += 1
            if isinstance(row, BadRow):
                if row.found:
                    raise row.error(name)
                prompts.left_out.add(row.reason, name.removeprefix(f"{where}, "), row.remedy)
                continue
            good += 1
            prompts.beside.update(texts_beside(row.metadata))
            yield PromptRow(prompt_id(row.messages), row.messages, row.target, row.metadata, name)
    if not good:
        counts = ", ".join(f"{reason}: {count}" for reason, count in prompts.left_out.counts.items())
        remedy = prompts.left_out.remedy or "fill in the prompts"
        raise DataError(f"{where}: none of {prompts.total} rows has a usable prompt", counts, remedy)


def _format(first: list[tuple[str, object]], where: str, field: str, format: str) -> tuple[Format, Detection]:
    if field != "auto":
        plain = FORMATS["prompts"]
        reader = Format(
            lambda record: read_prompt(record, (field,), alone=True), plain.looks_so, plain.sign, is_named=True
        )
        return reader, Detection("prompts", f"prompts.field is {field}")
    found = choose_format(format, first, where, OwnNames(key="prompts.field"))
    # One file may have prompts in fields of several names.
    plain = format == "auto" and found.format in PROMPT_FORMATS
    return FORMATS["prompts" if plain else found.format], found
