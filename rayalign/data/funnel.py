"""What every row passes, whatever its source and format: opened before it is read, checked after it was. Pure.

    record of a file or of the hub ─► opened ─► a reader of data/readers.py ─► checked ─► DatasetRow
                                         │                │                       │
                                         └────────────────┴── BadRow ◄────────────┘    a reason that names the field

The caller knows file and line (`formats.read_record`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from rayalign.data.dataset import BadRow, DatasetRow
from rayalign.data.fields import ASKING, CHATS, LEADING, PROMPT_FIELDS, Row, text, way_out
from rayalign.data.held import lifted
from rayalign.data.literals import turns_in
from rayalign.data.marks import refuse_templated
from rayalign.data.names import named, part_of, squashed
from rayalign.data.plain import plain_row, strict, unicode_text
from rayalign.data.turns import conversation, history, is_blank, is_conversation
from rayalign.records import JsonObject, Message

BLANK = "blank prompt"
NO_USER_TURN = "no user turn to answer"
REPEATED = frozenset((*PROMPT_FIELDS, "input", "context", "passage"))
"""Fields that may say again what is asked. What they say beside it must not be lost."""
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
    target, left_out = row.target, row.left_out
    if target is not None and not target.strip():
        target, left_out = None, {**left_out, "the answer is empty": ["answer 1"]}
    for answer in (target, *_answer_texts(row)):
        unicode_text(answer or "")
    for answer in (target, *(one.text for one in row.completions)):
        refuse_templated(answer or "")
    metadata = row.metadata if may_differ else _without_repetitions(record, row, messages)
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
        refuse_templated(message["content"])
    return messages


def _answer_texts(row: DatasetRow) -> Iterator[str | None]:
    for one in row.completions:
        yield from (one.text, one.judgment, one.revision)


def _without_repetitions(record: Row, row: DatasetRow, messages: list[Message]) -> JsonObject:
    """The metadata without conversations that the row repeats, which must say nothing new."""
    metadata = row.metadata
    for name in [name for name in record if squashed(name) in REPEATED]:
        if name not in metadata or metadata[name] is not record[name] or _is_label(name, record[name]):
            continue
        value = turns_in(metadata[name], name)
        turns = conversation(value, name) if is_conversation(value) else []
        said = [turn["content"] for turn in turns] or [text for text in (value,) if isinstance(text, str)]
        asked = [message["content"] for message in messages]
        # A text may also be the whole conversation in a template.
        whole = not turns and _repeats(asked, said)
        if not whole and not _repeats(said, [*asked, *filter(None, (row.target, *_answer_texts(row)))]):
            raise BadRow(
                f"{name} says something else than the prompt",
                why="it may be a part of what was asked, which would be lost",
                remedy=way_out(next((other for other in ASKING if other != name and record.get(other)), "prompt")),
            )
        if turns and name in CHATS:
            metadata = {key: value for key, value in metadata.items() if key != name}
    return metadata


def _is_label(name: str, value: object) -> bool:
    """Whether a field beside a prompt says nothing, or in one word of what kind the row is."""
    one_word = isinstance(value, str) and len(value.split()) == 1
    return part_of(name) in ("input", "passage") and (is_blank(value) or (one_word and part_of(name) == "passage"))


def _repeats(texts: Sequence[str], known: Sequence[str]) -> bool:
    return all(any(text.strip() in other for other in known) for text in texts)


def _shown(value: object) -> str:
    try:
        return repr(str(value)[:40])
    except (ValueError, RecursionError):
        return "of many digits or levels"
