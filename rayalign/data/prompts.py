"""Prompts: read a source. Pure Python; the tokenizer comes in `data/chat.py`.

A source is a JSON file (a list of objects, or an object with one list) or a JSONL file. The prompt is looked for
in the fields `messages`, `prompt`, `instruction` (+ `input`) and `turns`, in this order, or in the field that
the config names. The target (SFT answer) is a conversation's closing assistant turn, else the first text among
`target`, `output`, `response`, `completion`, `answer`. All other fields, ids included, become metadata.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rayalign.data.json_rows import read_rows
from rayalign.errors import DataError
from rayalign.records import Message, prompt_id

PROMPT_FIELDS = ("messages", "prompt", "instruction", "turns")
TARGET_FIELDS = ("target", "output", "response", "completion", "answer")

BLANK = "blank prompt"
NOT_TEXT = "prompt is not text"
NO_USER_TURN = "no user turn to answer"
BAD_UNICODE = "not valid Unicode (half of a surrogate pair)"


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


def load_prompt_rows(source: str, field: str = "auto") -> PromptRows:
    """Read a JSON or JSONL file.

    Raises:
        DataError: the file cannot be read, a row has no prompt field, or no usable prompt is left.
    """
    path = Path(source)
    named = read_rows(path, prompt_fields=(*PROMPT_FIELDS, field))
    return _collect(named, str(path), field)


def rows_from_records(records: Iterable[Mapping[str, Any]], where: str, field: str = "auto") -> PromptRows:
    """The same for objects that are already in memory; `where` names them in errors."""
    return _collect([(f"row {number}", record) for number, record in enumerate(records, 1)], where, field)


def _collect(named: Sequence[tuple[str, Any]], where: str, field: str) -> PromptRows:
    if not named:
        raise DataError(f"{where}: no rows", "there is nothing to sample from", "give a file with at least two prompts")
    rows: dict[str, PromptRow] = {}
    skipped: dict[str, list[str]] = {}
    duplicates = 0
    for name, record in named:
        row = _row(record, f"{where}, {name}", field)
        if isinstance(row, str):
            skipped.setdefault(row, []).append(name)
        elif row.id not in rows:
            rows[row.id] = row
        else:
            duplicates += 1
            first = rows[row.id]
            if first.target is None and row.target is not None:
                rows[row.id] = PromptRow(first.id, first.messages, row.target, first.metadata)
    if not rows:
        counts = ", ".join(f"{reason}: {len(names)}" for reason, names in skipped.items())
        raise DataError(f"{where}: none of {len(named)} rows has a usable prompt", counts, "fill in the prompts")
    return PromptRows(list(rows.values()), duplicates, skipped)


def _row(record: Any, where: str, field: str) -> PromptRow | str:
    """The row, or the reason why it is skipped."""
    if not isinstance(record, Mapping):
        found = f"{where}: found {type(record).__name__} {str(record)[:40]!r}"
        raise DataError(found, "a row is an object with a prompt field", 'for example {"prompt": "List two animals."}')
    name = _prompt_field(record, where, field)
    used = {name, "input"} if name == "instruction" else {name}
    messages = _messages(record, name, where)
    if isinstance(messages, str):
        return messages
    target = None
    if messages and messages[-1]["role"] == "assistant":
        messages, target = messages[:-1], messages[-1]["content"]
    if not messages or messages[-1]["role"] == "assistant":
        return NO_USER_TURN
    if not messages[-1]["content"].strip():
        return BLANK
    for answer in TARGET_FIELDS:
        if target is None and answer not in used and isinstance(record.get(answer), str) and record[answer].strip():
            target = record[answer]
            used.add(answer)
    try:
        "".join([text for message in messages for text in message.values()] + [target or ""]).encode()
    except UnicodeEncodeError:
        return BAD_UNICODE
    return PromptRow(prompt_id(messages), messages, target, _metadata(record, used))


def _metadata(record: Mapping[str, Any], used: set[str]) -> dict[str, Any]:
    """The fields that are neither prompt nor target; an object under `metadata` is spread out among them."""
    rest = {key: value for key, value in record.items() if key not in used}
    if isinstance(rest.get("metadata"), Mapping):
        rest = {**rest.pop("metadata"), **rest}
    return rest


def _prompt_field(record: Mapping[str, Any], where: str, field: str) -> str:
    wanted = PROMPT_FIELDS if field == "auto" else (field,)
    for name in wanted:
        if name in record:
            return name
    fields = ", ".join(str(key) for key in record) or "none"
    lacking = " or ".join(wanted)
    remedy = "name the field that holds the prompt in prompts.field"
    raise DataError(f"{where}: no field {lacking}; its fields are: {fields}", "a row needs a prompt", remedy)


def _messages(record: Mapping[str, Any], name: str, where: str) -> list[Message] | str:
    value = record[name]
    if isinstance(value, str):
        extra = record.get("input") if name == "instruction" else None
        text = f"{value}\n{extra}" if isinstance(extra, str) and extra.strip() else value
        return [{"role": "user", "content": text}]
    if not isinstance(value, list) or not value:
        return NOT_TEXT
    if all(isinstance(turn, Mapping) for turn in value):
        return _conversation(value, f"{where}, field {name}")
    return [{"role": "user", "content": value[0]}] if isinstance(value[0], str) else NOT_TEXT


def _conversation(turns: list[Mapping[str, Any]], where: str) -> list[Message] | str:
    for turn in turns:
        if "role" not in turn or "content" not in turn:
            fields = ", ".join(map(str, turn)) or "none"
            why = "each message of a conversation has a role and a content"
            raise DataError(
                f"{where}: a message with the fields: {fields}", why, "rename its fields to role and content"
            )
        if not isinstance(turn["role"], str) or not isinstance(turn["content"], str):
            return NOT_TEXT
    return [{"role": turn["role"], "content": turn["content"]} for turn in turns]
