"""Prompts: read a source, hold some out, draw a round's share. Pure Python; the tokenizer comes in `data/chat.py`.

A source is a JSON file (a list of objects, or an object with one list) or a JSONL file. The prompt is looked for
in the fields `messages`, `prompt`, `instruction` (+ `input`) and `turns`, in this order, or in the field that
the config names. The target (SFT answer) is a conversation's closing assistant turn, else the first text among
`target`, `output`, `response`, `completion`, `answer`. All other fields, ids included, become metadata.
"""

from __future__ import annotations

import hashlib
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
