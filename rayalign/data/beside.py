"""What a row has beside its prompt: it says again what was asked, or it would be lost, and the row is counted. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress

from rayalign.data.dataset import BadRow, DatasetRow
from rayalign.data.fields import ASKED_OF, ASKING, CHATS, PROMPT_FIELDS, Row, way_out
from rayalign.data.literals import list_in, turns_in
from rayalign.data.names import part_of, squashed
from rayalign.data.turns import conversation, is_blank, is_conversation, texts_in
from rayalign.records import JsonObject, Message

_PARTS = ("input", "passage", "guidance", "body")
"""Parts that may say again what is asked; what else they say must not be lost."""
_LETTERED = re.compile(r"(?:option|choice|opt?)[a-h1-9]")
"""One choice in a field of its own: option_a."""
_SENTENCE = 3
"""Words of a text that is more than a name or a label."""
_SHOWN = 6
_LOST = "it may be a part of what was asked, which would be lost"


def texts_beside(metadata: JsonObject) -> list[str]:
    """Names of the metadata that are texts of several words, which a model may have been meant to see."""
    return [name for name, value in metadata.items() if isinstance(value, str) and len(value.split()) >= _SENTENCE]


def beside_note(counts: Counter[str]) -> str:
    """What the user is told of such texts, by name and rows; empty where there is none."""
    shown = ", ".join(f"{name} ({count} rows)" for name, count in counts.most_common(_SHOWN))
    more = f" and {len(counts) - _SHOWN} more" if len(counts) > _SHOWN else ""
    return f"texts kept as metadata, which no model is shown: {shown}{more}" if counts else ""


def without_repetitions(record: Row, row: DatasetRow, messages: list[Message]) -> JsonObject:
    """The row's metadata without conversations that it repeats.

    Raises:
        BadRow: a field that usually holds a part of what is asked says something else.
    """
    asked = [message["content"] for message in messages]
    answers = [row.target, *(text for one in row.completions for text in (one.text, one.judgment, one.revision))]
    metadata = row.metadata
    for name in record:
        if name not in metadata or metadata[name] is not record[name]:
            continue
        part = part_of(name)
        if part == "begun":
            _refuse_begun(name, record, [row.target, *(one.text for one in row.completions)])
        elif part == "choices" or _is_one_choice(name, record):
            _refuse_unseen(name, record, asked)
        elif squashed(name) in PROMPT_FIELDS or (part in _PARTS and not _is_label(name, record)):
            repeated = _conversation_of(name, record, asked, list(filter(None, answers)))
            metadata = {key: kept for key, kept in metadata.items() if key != name or not repeated}
    return metadata


def _conversation_of(name: str, record: Row, asked: Sequence[str], answers: Sequence[str]) -> bool:
    """Whether a field that says nothing new holds a conversation, and is one for such.

    Raises:
        BadRow: it says something new.
    """
    value = turns_in(record[name], name)
    turns = conversation(value, name) if is_conversation(value) else []
    texts = [value] if isinstance(value, str) else texts_in(value) if part_of(name) in _PARTS else []
    said = [turn["content"] for turn in turns] or texts
    # A text may also be the whole conversation in a template.
    whole = not turns and _repeats([line for text in asked for line in text.splitlines()], said)
    if not whole and not _repeats(said, [*asked, *answers]):
        raise BadRow(f"{name} says something else than the prompt", why=_LOST, remedy=_remedy(name, record))
    return bool(turns) and name in CHATS


def _remedy(name: str, record: Row) -> str:
    system = f"rename {name} to system where it is the system turn; " if part_of(name) == "guidance" else ""
    return system + way_out(next((other for other in ASKING if other != name and record.get(other)), "prompt"))


def _is_label(name: str, record: Row) -> bool:
    """Whether a field beside a prompt says nothing, or in one word of what kind the row is."""
    value, part = record[name], part_of(name)
    if part == "body" and (any(map(record.get, CHATS)) or not any(map(record.get, ("prompt", *ASKED_OF)))):
        return True
    return is_blank(value) or (part != "input" and isinstance(value, str) and not texts_in(value))


def _repeats(texts: Sequence[str], known: Sequence[str]) -> bool:
    return all(any(text.strip() in other for other in known) for text in texts)


def _is_one_choice(name: str, record: Row) -> bool:
    """Whether a field holds one of several choices: option_a, or A where there is a B too."""
    letters = len(name) == 1 and name in "ABCDEFGH" and "A" in record and "B" in record
    return letters or _LETTERED.fullmatch(squashed(name)) is not None


def _refuse_unseen(name: str, record: Row, asked: Sequence[str]) -> None:
    """Raise where the prompt does not have the choices."""
    for choice in _choices(record[name], name):
        word = re.compile(rf"(?<!\w){re.escape(choice.strip())}(?!\w)")
        if not any(word.search(text) for text in asked):
            remedy = f"write the choices into the prompt; {_remedy(name, record)}"
            raise BadRow(f"{name} says something else than the prompt", why=_LOST, remedy=remedy)


def _choices(value: object, name: str) -> list[str]:
    """The texts of choices: [x, y], {"A": x, "B": y}, {"text": [x, y], "label": ["A", "B"]}, or a text of them."""
    if isinstance(value, str):
        with suppress(BadRow):
            value = list_in(value, name)
    if isinstance(value, Mapping):
        lettered = all(len(str(key)) == 1 for key in value)
        value = list(value.values()) if lettered else value.get("text", value.get("choices"))
    items = value if isinstance(value, list) else [value]
    items = [item.get("text", item.get("content")) if isinstance(item, Mapping) else item for item in items]
    return [str(item) for item in items if isinstance(item, str | int | float) and not is_blank(item)]


def _refuse_begun(name: str, record: Row, answers: Sequence[str | None]) -> None:
    """Raise where the beginning of an answer stands apart from it."""
    value, begun = record[name], [answer for answer in answers if answer]
    if not isinstance(value, str) or is_blank(value) or (begun and all(a.startswith(value.strip()) for a in begun)):
        return
    raise BadRow(
        f"{name} is the beginning of the answer, and stands apart from it",
        why="the answer would be learned without its beginning",
        remedy=f"put it before the answers; {_remedy(name, record)}",
    )
