"""Fields of a dataset's rows, each read strictly: what cannot be used raises `BadRow` with its reason. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeGuard

from rayalign.data.dataset import BadRow, Completion
from rayalign.records import JsonObject, Message

PROMPT_FIELDS = ("messages", "prompt", "instruction", "turns")
TARGET_FIELDS = ("target", "output", "response", "completion", "answer")
SCORED_FIELD = "answer"
"""Scorers look for the right answer here."""

BLANK = "blank prompt"
NOT_TEXT = "prompt is not text"
NO_USER_TURN = "no user turn to answer"
BAD_UNICODE = "not valid Unicode (half of a surrogate pair)"

_SPEAKER = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}

Row = Mapping[str, object]
"""A row as its source has it, of which nothing is taken for granted."""


def require(record: Row, name: str) -> object:
    """The field's value, of any kind but null."""
    if name not in record:
        raise BadRow(f"no field {name}", *_no_field(record, name), "name the format that these rows have")
    if record[name] is None:
        raise BadRow(f"{name} is null")
    return record[name]


def text(record: Row, name: str) -> str:
    """The field's text, exactly; it is not blank."""
    value = require(record, name)
    if not isinstance(value, str):
        raise BadRow(f"{name} is not text")
    if not value.strip():
        raise BadRow(f"{name} is empty")
    return unicode_text(value)


def optional_text(record: Row, name: str) -> str | None:
    """The same; None where the field is missing, null or blank."""
    value = record.get(name)
    return None if value is None or (isinstance(value, str) and not value.strip()) else text(record, name)


def number(record: Row, name: str) -> float:
    """The field's number: neither a text, nor true or false, nor infinite, nor NaN."""
    value = require(record, name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BadRow(f"{name} is not a number")
    return float(value)


def unicode_text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadRow(BAD_UNICODE) from None
    return value


def rest(record: Row, used: Iterable[str]) -> JsonObject:
    """The fields that are not used; an object under `metadata` is spread out among them."""
    left: JsonObject = {key: value for key, value in record.items() if key not in set(used)}
    spread = left.get("metadata")
    if isinstance(spread, Mapping):
        del left["metadata"]
        left = {**spread, **left}
    return left


def prompt_field(record: Row, names: Sequence[str]) -> str:
    """The first of `names` that the row has."""
    for name in names:
        if name in record:
            return name
    lacking = " or ".join(names)
    remedy = "name the field that holds the prompt in prompts.field, or the format"
    raise BadRow(f"no field {lacking}", *_no_field(record, lacking), remedy)


def prompt_messages(record: Row, name: str) -> list[Message]:
    """The conversation in a field: a text (of `instruction` with the `input` behind it), messages, or turns."""
    value = record[name]
    if isinstance(value, str):
        extra = record.get("input") if name == "instruction" else None
        whole = f"{value}\n{extra}" if isinstance(extra, str) and extra.strip() else value
        return [{"role": "user", "content": whole}]
    if not isinstance(value, list) or not value:
        raise BadRow(NOT_TEXT)
    if all(isinstance(turn, Mapping) for turn in value):
        return conversation(value, name)
    if not isinstance(value[0], str):
        raise BadRow(NOT_TEXT)
    return [{"role": "user", "content": value[0]}]


def conversation(turns: Sequence[Row], name: str) -> list[Message]:
    messages: list[Message] = []
    for turn in turns:
        if "role" not in turn or "content" not in turn:
            fields = ", ".join(map(str, turn)) or "none"
            raise BadRow(
                "a message without role and content",
                f"field {name}: a message with the fields: {fields}",
                "each message of a conversation has a role and a content",
                "rename its fields to role and content",
            )
        role, content = turn["role"], turn["content"]
        if not isinstance(role, str) or not isinstance(content, str):
            raise BadRow(NOT_TEXT)
        messages.append({"role": role, "content": content})
    return messages


def dialogue(value: str, name: str) -> list[Message]:
    """Messages of a text in which "Human:" and "Assistant:" take turns (HH-RLHF, Nectar).

    >>> dialogue("\\n\\nHuman: Hi\\n\\nAssistant: Hello", "chosen")[1]
    {'role': 'assistant', 'content': 'Hello'}
    """
    before, *pieces = _SPEAKER.split(value)
    if before.strip() or not pieces:
        raise BadRow(f"{name} is no dialogue of Human: and Assistant:")
    speakers, said = pieces[::2], pieces[1::2]
    return [{"role": _ROLES[who], "content": what.strip()} for who, what in zip(speakers, said, strict=True)]


def is_dialogue(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and bool(_SPEAKER.match(value))


def asked(messages: list[Message]) -> list[Message]:
    """The conversation, checked: it ends with something to answer."""
    if not messages or messages[-1]["role"] == "assistant":
        raise BadRow(NO_USER_TURN)
    if not messages[-1]["content"].strip():
        raise BadRow(BLANK)
    for message in messages:
        unicode_text(message["role"] + message["content"])
    return messages


def answers(
    items: Sequence[object], read: Callable[[Row], Completion | None]
) -> tuple[list[Completion], dict[str, list[str]]]:
    """The usable answers of a row, and the others by reason; `read` gives None for one that the dataset skips.

    Raises:
        BadRow: none can be used.
    """
    completions: list[Completion] = []
    left_out: dict[str, list[str]] = {}
    for place, item in enumerate(items, 1):
        try:
            if not isinstance(item, Mapping):
                raise BadRow("an answer is not an object")
            completion = read(item)
            if completion is not None:
                completions.append(completion)
        except BadRow as bad:
            left_out.setdefault(bad.reason, []).append(f"answer {place}")
    if not completions:
        raise BadRow(next(iter(left_out), "no answers"))
    return completions, left_out


def objects(record: Row, name: str) -> list[object]:
    value = require(record, name)
    if not isinstance(value, list):
        raise BadRow(f"{name} is not a list")
    return value


def _no_field(record: Row, lacking: str) -> tuple[str, str]:
    fields = ", ".join(str(key) for key in record) or "none"
    return f"no field {lacking}; its fields are: {fields}", "a row needs it"
