"""What every row passes, whatever its source and format: opened before it is read, checked after it was. Pure.

    record of a file or of the hub ─► opened ─► a reader of data/readers.py ─► checked ─► DatasetRow
                                         │                │                       │
                                         └────────────────┴── BadRow ◄────────────┘    a reason that names the field

The caller knows file and line (`formats.read_record`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from rayalign.data.beside import without_repetitions
from rayalign.data.dataset import BadRow, DatasetRow
from rayalign.data.echoes import without_echo
from rayalign.data.fields import LEADING, Row, text
from rayalign.data.held import lifted
from rayalign.data.marks import refuse_templated
from rayalign.data.names import named, part_of
from rayalign.data.plain import plain_row, strict, unicode_text
from rayalign.data.turns import history, is_blank
from rayalign.records import Message

BLANK = "blank prompt"
NO_USER_TURN = "no user turn to answer"
_NO_TEXT = ("tools", "media")


def opened(record: object) -> Row:
    """The row that stands in a source, with values of JSON's kinds.

    Raises:
        BadRow: it could not be read, is no object, or holds what a conversation of texts cannot.
    """
    if isinstance(record, BadRow):
        raise record
    if not isinstance(record, Mapping):
        found = f"found {type(record).__name__} {_shown(record)}"
        example = 'for example {"prompt": "List two animals."}'
        raise BadRow("not an object", found, "a row is an object with a prompt field", example)
    row = lifted(plain_row(record))
    for name in row:
        if part_of(name) in _NO_TEXT and not is_blank(row[name]):
            raise BadRow(
                f"the row has {name}, and only texts can be kept",
                why="a model would have seen what is in it, and no template here is given it",
                remedy=f"leave such rows out, or remove {name} where the texts stand without it",
            )
    return row


def checked(record: Row, row: DatasetRow, *, may_differ: bool = False) -> DatasetRow:
    """The row as all later parts take it: a conversation to answer, texts of valid Unicode, metadata of strict JSON.

    Args:
        record: what `row` was read from.
        may_differ: whether fields that usually hold a prompt may say something else than the conversation.

    Raises:
        BadRow: it cannot be used.
    """
    messages = _asked(_led(record, row.messages))
    row = without_echo(row, messages[-1]["content"])
    target, left_out = row.target, row.left_out
    if target is not None and not target.strip():
        target, left_out = None, {**left_out, "the answer is empty": ["answer 1"]}
    for answer in (target, *_answer_texts(row)):
        unicode_text(answer or "")
    for answer in (target, *(one.text for one in row.completions)):
        refuse_templated(answer or "")
    metadata = row.metadata if may_differ else without_repetitions(record, row, messages)
    return replace(row, messages=messages, target=target, metadata=strict(metadata), left_out=left_out)


def _led(record: Row, messages: list[Message]) -> list[Message]:
    """The conversation behind the system turn and the history that the row has in fields of their own."""
    system = messages[:1] if messages and messages[0]["role"] == "system" else []
    turns = messages[len(system) :]
    if system and system[0]["content"].strip() and is_blank(system[0]["content"]):
        system = []
    lead = [name for name in record if part_of(name) in LEADING]
    for name in named(lead, "system"):
        if is_blank(record[name]):
            continue
        told = text(record, name)
        if system and system[0]["content"].strip() not in (told.strip(), ""):
            raise BadRow(f"{name} is not the system turn that the row has already")
        system = system if system and system[0]["content"].strip() else [{"role": "system", "content": told}]
    for name in named(lead, "history"):
        past = history(record[name], name)
        if past and past[0]["role"] == "system":
            if system:
                raise BadRow(f"{name} is not the beginning of a conversation")
            system, past = past[:1], past[1:]
        turns = turns if turns[: len(past)] == past else [*past, *turns]
    return [*system, *turns]


def _asked(messages: list[Message]) -> list[Message]:
    """The conversation, which ends with something to answer."""
    if not messages or messages[-1]["role"] == "assistant" or all(m["role"] == "system" for m in messages):
        raise BadRow(NO_USER_TURN)
    if not messages[-1]["content"].strip():
        raise BadRow(BLANK)
    for message in messages:
        unicode_text(message["content"])
    return messages


def _answer_texts(row: DatasetRow) -> Iterator[str | None]:
    for one in row.completions:
        yield from (one.text, one.judgment, one.revision)


def _shown(value: object) -> str:
    try:
        return repr(str(value)[:40])
    except (ValueError, RecursionError):
        return "of many digits or levels"
