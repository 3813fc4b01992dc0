"""The dataset formats by name, and how a file's format is told from its first rows. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rayalign.data import fields, pair_readers, readers
from rayalign.data.dataset import BadRow, DatasetRow, printable
from rayalign.data.fields import CHATS, Row
from rayalign.data.funnel import checked, opened
from rayalign.data.literals import by_rows, list_in
from rayalign.data.own_names import OwnNames
from rayalign.data.turns import is_dialogue
from rayalign.errors import DataError

NO_NAMES = OwnNames()
DETECT_ROWS = 32
"""Rows that `detect` looks at."""


def _has(*names: str) -> Callable[[Row], bool]:
    return lambda record: all(name in record for name in names)


def _critiques(record: Row) -> bool:
    data = record.get("data")
    return isinstance(data, Mapping) and "questions" in data


def _ultrafeedback(record: Row) -> bool:
    asks = any(name in record for name in ("instruction", "prompt", "question", "query"))
    return asks and (_is_list(record, "completions") or _answers_and_scores(record))


def _answers_and_scores(record: Row) -> bool:
    """Whether there are answers A0, A1, ... and scores of such, be it of others."""
    names = [name for name in record if isinstance(name, str)]
    answered = any(name[:1] == "A" and name[1:].isdecimal() for name in names)
    return answered and any(name[:7] == "score_A" and name[7:].isdecimal() for name in names)


def _is_list(record: Row, name: str) -> bool:
    """Whether a field holds a list, be it as text or as an object of lists."""
    try:
        return isinstance(by_rows(list_in(record.get(name), name), name), list)
    except BadRow:
        return False


def _unpaired(record: Row) -> bool:
    """TRL's form; else LLaMA-Factory's, where a label beside a conversation is true or false and no class."""
    chat = any(name in record for name in CHATS) and isinstance(record.get("label"), bool)
    tagged = "kto_tag" in record and "chosen" not in record
    return {"prompt", "completion", "label"} <= record.keys() or chat or tagged


def _hh_rlhf(record: Row) -> bool:
    named = any(name in record for name in fields.ASKING)
    return not named and is_dialogue(record.get("chosen")) and "rejected" in record


def _messages(record: Row) -> bool:
    """Whether a field for conversations is there, also where it is null, unless the prompt stands in another."""
    filled = any(record.get(name) is not None for name in CHATS)
    return filled or (any(name in record for name in CHATS) and fields.asking_field(record) is None)


def _ultrachat(record: Row) -> bool:
    turns = record.get("data")
    if _is_list(record, "data"):
        turns = list_in(turns, "data")
    published = isinstance(turns, list) and len(turns) > 1 and all(isinstance(turn, str) for turn in turns)
    return published or {"messages", "prompt", "prompt_id"} <= record.keys()


def _prompts(record: Row) -> bool:
    return any(name in record for name in fields.PROMPT_FIELDS)


@dataclass(frozen=True, slots=True)
class Format:
    read: Callable[[Row], DatasetRow]
    looks_so: Callable[[Row], bool]
    sign: str
    """What `looks_so` looks for, in words."""
    split: Callable[[Row], list[tuple[str, Row]]] | None = None
    """Splits a row of the file that holds many rows into these, each with its name; null where none does."""
    is_named: bool = False
    """Whether the user named the field that holds the prompt: others may then say something else."""


FORMATS: dict[str, Format] = {
    "critiques": Format(
        readers.read_critique, _critiques, "an object data with questions", split=readers.split_critiques
    ),
    "ultrafeedback": Format(
        readers.read_ultrafeedback, _ultrafeedback, "a list completions (or A0 and score_A0) beside the prompt"
    ),
    "nectar": Format(readers.read_nectar, _has("prompt", "answers"), "the fields prompt and answers"),
    "unpaired": Format(
        pair_readers.read_unpaired,
        _unpaired,
        "the fields prompt, completion and label, or an answer with label or kto_tag",
    ),
    "hh-rlhf": Format(
        pair_readers.read_hh_rlhf, _hh_rlhf, "dialogues in the fields chosen and rejected, and no prompt"
    ),
    "preference": Format(pair_readers.read_preference, _has("chosen", "rejected"), "the fields chosen and rejected"),
    "judgments": Format(
        readers.read_judgments,
        _has("instruction", "output", "judgment"),
        "the fields instruction, output and judgment",
    ),
    "shepherd": Format(
        readers.read_shepherd, _has("question", "answer", "feedback"), "the fields question, answer and feedback"
    ),
    "alpaca-eval": Format(
        readers.read_alpaca_eval,
        _has("instruction", "output", "generator"),
        "the fields instruction, output and generator",
    ),
    "ultrachat": Format(
        readers.read_ultrachat, _ultrachat, "texts in the field data, or the fields messages, prompt and prompt_id"
    ),
    "messages": Format(readers.read_messages, _messages, f"one of the fields {', '.join(CHATS)}"),
    "alpaca": Format(readers.read_alpaca, _has("instruction", "output"), "the fields instruction and output"),
    "prompts": Format(readers.read_prompt, _prompts, f"one of the fields {', '.join(fields.PROMPT_FIELDS)}"),
}
"""The formats by name. Their order counts: a row that looks like several is of the first one."""

PROMPT_FORMATS = ("messages", "alpaca", "prompts")
"""Formats of prompts and targets alone; `prompts` reads the rows of them all."""


@dataclass(frozen=True, slots=True)
class Detection:
    format: str
    reason: str
    """Why it is this format, in words, for people."""


def format_of(record: object) -> str | None:
    """The first format that the row looks like."""
    if not isinstance(record, Mapping):
        return None
    return next((name for name, one in FORMATS.items() if one.looks_so(record)), None)


def _format_of_opened(record: object) -> str | None:
    try:
        return format_of(opened(record))
    except BadRow:
        return format_of(record)


def detect(records: Sequence[object], where: str, own: OwnNames = NO_NAMES) -> Detection:
    """The format that most of the (first) rows look like.

    Raises:
        DataError: no row looks like any; `where` names the source.
    """
    votes = Counter(name for name in map(_format_of_opened, records) if name)
    if not votes:
        fields_seen = next((", ".join(map(str, record)) for record in records if isinstance(record, Mapping)), "")
        raise DataError(
            f"{where}: no known format; the fields of its rows are: {printable(fields_seen) or 'none'}",
            f"a format is told by its fields, for example {FORMATS['preference'].sign}",
            own.remedy(records),
        )
    if len(votes) > 1 and votes.keys() <= set(PROMPT_FORMATS):
        return Detection("prompts", f"of the first {len(records)} rows, each has {FORMATS['prompts'].sign}")
    name = next(name for name in FORMATS if votes[name] == max(votes.values()))
    return Detection(name, f"{votes[name]} of the first {len(records)} rows have {FORMATS[name].sign}")


def choose_format(name: str, first: Sequence[tuple[str, object]], where: str, own: OwnNames = NO_NAMES) -> Detection:
    """The named format, or where `name` is `auto` the one of the first (name, row) pairs.

    Raises:
        DataError: there is no such format, or it cannot be told.
    """
    if name == "auto":
        unreadable = next(((place, row) for place, row in first if isinstance(row, BadRow)), None)
        if unreadable and not any(isinstance(row, Mapping) for _, row in first):
            raise unreadable[1].error(unreadable[0])
        return detect([row for _, row in first], where, own)
    if name not in FORMATS:
        raise DataError(f"format {name!r}", "there is no such format", f"use one of {', '.join(FORMATS)}, or auto")
    return Detection(name, "it was named")


def read_record(record: object, name: str, form: Format) -> Iterator[tuple[str, DatasetRow | BadRow]]:
    """The rows that one record of a source holds, each with its name; those that cannot be used as `BadRow`."""
    try:
        row = opened(record)
        parts = [("", row)] if form.split is None else form.split(row)
    except BadRow as bad:
        yield name, bad
        return
    for part, item in parts:
        full_name = f"{name}, {part}" if part else name
        try:
            yield full_name, checked(item, form.read(item), may_differ=form.is_named)
        except BadRow as bad:
            yield full_name, bad
