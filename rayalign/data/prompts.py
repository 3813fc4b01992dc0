"""Prompts: read a source, hold some out, draw a round's share. Pure Python; the tokenizer comes in `data/chat.py`.

A source is anything that `data/sources.py` opens, in any format of `data/formats.py`. Of plain prompts the prompt is
looked for in the fields `messages`, `prompt`, `instruction` (+ `input`) and `turns`, in this order, or in the field
that the config names. The target (SFT answer) is a conversation's closing assistant turn, else the first text among
`target`, `output`, `response`, `completion`, `answer`. All other fields, ids included, become metadata.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
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


@dataclass(frozen=True, slots=True)
class Split:
    """Ids to train on (in the source's order) and ids held out (in hash order)."""

    train: list[str]
    holdout: list[str]
    notice: str | None = None
    """One line for the user where the split is not what the config asked for."""


def split_prompts(prompts: Iterable[tuple[str, Mapping[str, Any]]], holdout: int) -> Split:
    """Hold out the `holdout` prompts whose hashed ids are smallest, from (id, metadata) pairs.

    Where metadata have `split: holdout` (or `train`), held-out prompts come only from the ones so marked (or not
    marked `train`), and training prompts only from the others. Else, of fewer than 4 * `holdout` prompts a
    quarter is held out.

    Raises:
        DataError: one of the two parts would be empty.
    """
    marks = {identity: metadata.get("split") for identity, metadata in prompts}
    held = [identity for identity, mark in marks.items() if mark == "holdout"]
    if not held and "train" in marks.values():
        held = [identity for identity, mark in marks.items() if mark != "train"]
    if held or "train" in marks.values():
        reserved = set(held)
        candidates, train = held, [identity for identity in marks if identity not in reserved]
        count = min(holdout, len(held))
        short = f"the source marks only {len(held)} prompts for the holdout" if count < holdout else None
    else:
        candidates, train = list(marks), None
        count = holdout if len(marks) >= 4 * holdout else max(1, len(marks) // 4)
        short = f"{len(marks)} prompts are fewer than 4 x prompts.holdout" if count < holdout else None
    chosen = sorted(candidates, key=_holdout_key)[:count]
    if train is None:
        train = [identity for identity in marks if identity not in set(chosen)]
    if not chosen or not train:
        found = f"{len(marks)} prompts: {len(train)} to train on, {len(chosen)} to hold out"
        raise DataError(found, "each part needs at least one", "give at least two distinct prompts, of both splits")
    return Split(train, chosen, f"{short}: {count} held out instead of {holdout}" if short else None)


def hold_out(prompts: Iterable[tuple[str, Mapping[str, Any]]], holdout: int, train: Sequence[str]) -> Split:
    """Hold out of a source that is not trained on, and train on other prompts: `train`, less what is held out.

    Held out are, as in `split_prompts`, the prompts whose hashed ids are smallest, of those marked `split: holdout`
    where any are.

    Raises:
        DataError: nothing is left to train on.
    """
    marks = {identity: metadata.get("split") for identity, metadata in prompts}
    marked = [identity for identity, mark in marks.items() if mark == "holdout"]
    chosen = sorted(marked or marks, key=_holdout_key)[:holdout]
    held = set(chosen)
    left = [identity for identity in train if identity not in held]
    if not left:
        raise DataError(f"all {len(train)} prompts of samples.source are held out", "nothing is left to train on",
                        "lower prompts.holdout, or give other prompts in prompts.source")  # fmt: skip
    both = len(train) - len(left)
    return Split(left, chosen, f"{both} prompts of samples.source are held out, not trained on" if both else None)


def _holdout_key(identity: str) -> bytes:
    return hashlib.sha256(f"holdout:{identity}".encode()).digest()


def draw_prompts(ids: Sequence[str], seed: int, round_index: int, per_round: int) -> list[str]:
    """The prompts of a round (rounds count from 1): a pure function of its arguments, whatever the order of `ids`.

    Rounds walk through one permutation of all prompts after the other, so each prompt is used once before any is
    used again. Where a round spans two permutations, prompts of the first are moved back in the second, so that no
    prompt is drawn twice in a round. A round never has more than all prompts.
    """
    distinct = sorted(set(ids))
    total, size = len(distinct), min(per_round, len(distinct))
    if size < 1:
        return []
    first = (round_index - 1) * size
    drawn: list[str] = []
    previous: list[str] = []
    for epoch in range((first + size - 1) // total + 1):
        carried = epoch * total % size
        head = size - carried if carried else 0
        order = _permutation(distinct, seed, epoch, set(previous[total - carried :]), head)
        start = epoch * total
        drawn += order[max(0, first - start) : max(0, first + size - start)]
        previous = order
    return drawn


def _permutation(ids: list[str], seed: int, epoch: int, taken: set[str], head: int) -> list[str]:
    """All ids in the order of their hashes, except that none of `taken` is among the first `head`."""
    order = sorted(ids, key=lambda identity: hashlib.sha256(f"{seed}:{epoch}:{identity}".encode()).digest())
    if not head:
        return order
    leading = [identity for identity in order if identity not in taken][:head]
    ahead = set(leading)
    return leading + [identity for identity in order if identity not in ahead]
