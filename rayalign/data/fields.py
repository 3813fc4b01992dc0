"""Fields of a dataset's rows, each read strictly: what cannot be used raises `BadRow` with its reason. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal

from rayalign.data.dataset import BadRow, Completion
from rayalign.data.literals import by_rows, is_turn, list_in, turns_in
from rayalign.data.names import part_of, squashed
from rayalign.data.plain import unicode_text
from rayalign.data.turns import (
    NOT_TEXT,
    conversation,
    dialogue,
    dialogue_on,
    is_blank,
    is_conversation,
    is_dialogue,
    joined,
)
from rayalign.records import JsonObject, Message

CHATS = ("messages", "conversations", "conversation")
PROMPT_FIELDS = ("messages", "prompt", "instruction", "turns", "conversations", "conversation", "question", "query")
ASKING = ("prompt", "instruction", "question", "query", "input", *CHATS)
"""Fields that hold a prompt beside answers, the surest first."""
LEADING = ("system", "history")
"""What fields hold that stands before the prompt (`names.part_of`): part of the conversation, never metadata."""
ASKED_OF = ("instruction", "question", "query")
"""Fields of prompts that may be asked of a text in another field."""
TARGET_FIELDS = ("target", "output", "response", "completion", "answer")
NO_FIELD = "no field"
"""How the reason of a row begins that lacks a field."""
SCORED_FIELD = "answer"
"""Scorers look for the right answer here."""

Row = Mapping[str, object]
"""A row as its source has it, of which nothing is taken for granted."""


def require(record: Row, name: str) -> object:
    """The field's value, of any kind but null."""
    if name not in record:
        remedy = "name the format that these rows have, or its fields: fields of samples and data, --field of convert"
        raise BadRow(f"{NO_FIELD} {name}", *_no_field(record, name), remedy)
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
    """The same; None where the field is missing, null, NaN or blank."""
    value = record.get(name)
    missing = value is None or value != value or (isinstance(value, str) and not value.strip())
    return None if missing else text(record, name)


def number(record: Row, name: str) -> float:
    """The field's number: neither a text, nor true or false, nor infinite, nor NaN, nor too large for a float."""
    value = require(record, name)
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal) or value != value:
        raise BadRow(f"{name} is not a number")
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise BadRow(f"{name} is not a finite number")
    return found


def rest(record: Row, used: Iterable[str]) -> JsonObject:
    """The fields that are not used; an object under `metadata` is spread out among them."""
    gone = set(used)
    left: JsonObject = {key: value for key, value in record.items() if key not in gone and part_of(key) not in LEADING}
    spread = left.get("metadata")
    if isinstance(spread, Mapping):
        del left["metadata"]
        left = {**spread, **left}
    return left


def prompt_field(record: Row, names: Sequence[str]) -> str:
    """The first of `names` that the row has, with a value where any of them has one."""
    there = [name for name in names if name in record]
    if there:
        return next((name for name in there if record[name] is not None), there[0])
    lacking = " or ".join(names)
    remedy = "name the field that holds the prompt in prompts.field, or the format"
    raise BadRow(f"{NO_FIELD} {lacking}", *_no_field(record, lacking), remedy)


def asking_field(record: Row) -> str | None:
    """The field that holds the prompt beside answers, if any does; a blank one where no other does."""
    blank = None
    for name in ASKING:
        if name in record and _asks(record[name], name):
            if record[name] != "":
                return name
            blank = blank or name
    return blank


def _asks(value: object, name: str) -> bool:
    return is_conversation(turns_in(value, name)) if name in CHATS else value is not None


def prompt_in(record: Row, name: str, *, alone: bool = False) -> tuple[list[Message], set[str]]:
    """The conversation in a field (a text with what is `below` it, messages, or turns), and the fields that it takes.

    Args:
        alone: whether nothing but the `input` of an instruction belongs to it.
    """
    value = record[name]
    if name == "instruction":
        value = "" if value is None and any(map(_is_text, _inputs(record).values())) else value
    else:
        value = list_in(value, name) if name == "turns" else turns_in(value, name)
    if isinstance(value, str):
        more = below(record, name, value, alone=alone) if squashed(name) in ASKED_OF else {}
        said = list(filter(None, more.values()))
        if value.strip():
            said = [value, *said]
        elif not any(map(_is_text, _inputs(more).values())):
            # A text that nothing is asked of is no prompt; the input of a blank instruction is one.
            said = [value]
        return [{"role": "user", "content": "\n".join(said)}], {name, *more}
    if is_turn(value) or (isinstance(value, list) and value and isinstance(value[0], Mapping)):
        return conversation(value, name), {name}
    if name in CHATS and (value is None or value == []):
        raise BadRow(f"{name} is {'null' if value is None else 'empty'}")
    if not isinstance(value, list) or not value or not isinstance(value[0], str):
        raise BadRow(NOT_TEXT)
    if name in PROMPT_FIELDS and name != "turns":
        raise BadRow(f"{name} is a list of texts: a table by columns has one row per text")
    return [{"role": "user", "content": value[0]}], {name}


def _inputs(record: Row) -> Row:
    return {field: value for field, value in record.items() if part_of(field) == "input"}


def _is_text(value: object) -> bool:
    return isinstance(value, str) and not is_blank(value)


def asked_in(record: Row, name: str) -> tuple[list[Message], set[str]]:
    """The same, also where it is a dialogue of Human: and Assistant: with the answer left open."""
    value = require(record, name)
    if not is_dialogue(value):
        return prompt_in(record, name)
    messages = dialogue(value, name)
    return messages[:-1] if messages[-1] == {"role": "assistant", "content": ""} else messages, {name}


def answer_to(record: Row, name: str, messages: list[Message]) -> tuple[list[Message], str]:
    """What is answered, and the answer: a text, or a conversation that ends in it and repeats or goes on from it."""
    value = dialogue_on(turns_in(record.get(name), name), messages, name)
    if not is_conversation(value):
        return messages, text(record, name)
    *before, last = conversation(value, name)
    if last["role"] != "assistant":
        raise BadRow("no closing answer")
    return joined(messages, before, name), text({name: last["content"]}, name)


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


def numbered(record: Row, letter: str) -> list[str]:
    """The names A0, A1, ... of answers that a row has, or of which it has a score, in their order."""
    found = {name.removeprefix("score_") for name, value in record.items() if value is not None}
    return sorted((name for name in found if re.fullmatch(rf"{letter}\d{{1,3}}", name)), key=lambda name: int(name[1:]))


def objects(record: Row, name: str) -> list[object]:
    value = by_rows(list_in(require(record, name), name), name)
    if not isinstance(value, list):
        raise BadRow(f"{name} is not a list")
    return value


def below(record: Row, name: str, asked: str, *, alone: bool = False) -> dict[str, str]:
    """The fields that belong below the text that a field asks, with what they say: nothing where they are blank.

    Raises:
        BadRow: one is not text.
    """
    found: dict[str, str] = {}
    for field, value in record.items():
        part = part_of(field)
        if part not in ("input", "passage"):
            continue
        if alone if part == "passage" else squashed(name) != "instruction":
            continue
        if is_blank(value):
            found[field] = ""
        elif part == "input":
            found[field] = text(record, field)
        elif isinstance(value, list | Mapping) and _holds_text(value):
            why = f"{name} is asked of it, and only a text can stand below"
            raise BadRow(f"{field} is not text", why=why, remedy=way_out(name))
        elif isinstance(value, str) and not _is_name(field, value):
            # What the question says already is not said twice.
            found[field] = "" if value.strip() in asked else text(record, field)
    return found


def _holds_text(value: object) -> bool:
    """Whether a value holds any text: a list of numbers is one of ids."""
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return isinstance(value, str) or any(map(_holds_text, items))


def _is_name(field: str, value: str) -> bool:
    """Whether a field that often holds a text has its name or address instead, such as an id or a link."""
    return squashed(field) != "context" and len(value.split()) == 1


def way_out(name: str) -> str:
    """How a user says that one field is the whole prompt."""
    return (
        f"where {name} is the whole prompt, say so: prompts.field: {name}; for pairs and judged answers fields: "
        f"{{prompt: {name}}} under samples or data; convert: --field prompt={name}"
    )


def _no_field(record: Row, lacking: str) -> tuple[str, str]:
    fields = ", ".join(str(key) for key in record) or "none"
    return f"{NO_FIELD} {lacking}; its fields are: {fields}", "a row needs it"
