"""Conversations: messages of a row's field, in the forms in which datasets have them. Pure.

A `Message` is a role (system, user, assistant) and a text. What a turn has beyond that and a model would have seen or
said (calls of tools, images, thoughts) cannot be kept, so that the row cannot be used.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TypeGuard

from rayalign.data.dataset import BadRow
from rayalign.data.literals import KEYS, is_turn, list_in, turns_in
from rayalign.data.names import part_of
from rayalign.records import Message

NOT_TEXT = "prompt is not text"
ROLES = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bot", "chatbot", "model", "ai", "bing", "bard"), "assistant"),
}
"""A role as datasets name it, in small letters -> the role."""
BEYOND_TEXT = frozenset(("tools", "media", "files", "thoughts"))
"""Parts of a turn that no text holds."""
MISSING = frozenset(
    (
        "",
        "[]",
        "{}",
        "null",
        "None",
        "NULL",
        "Null",
        "none",
        "nan",
        "NaN",
        "NAN",
        "<NA>",
        "NaT",
        "N/A",
        "n/a",
        "#N/A",
        "<noinput>",
        '""',
        '"[]"',
        '"null"',
        "[null]",
        "[None]",
        "[nan]",
    )
)
"""Texts that stand for nothing where a field may be left out: tables are written so."""
_SPEAKER = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")
_SPEAKERS = {"Human": "user", "Assistant": "assistant"}
_TEXT_PARTS = {"text", "input_text", "output_text"}
_SHOWN = 20

Turn = Mapping[str, object]


def is_blank(value: object) -> bool:
    """Whether a value says nothing: null, false, NaN, a blank text, one of `MISSING`, or a list or object of such."""
    if isinstance(value, str):
        return value.strip() in MISSING
    if isinstance(value, Mapping):
        return all(map(is_blank, value.values()))
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return all(map(is_blank, value))
    return value is None or value is False or value != value


def texts_in(value: object) -> list[str]:
    """The texts of more than one word in a value, at any depth: one word is a name, an id or a label."""
    if isinstance(value, str):
        return [value] if len(value.split()) > 1 else []
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return [text for item in items for text in texts_in(item)]


def conversation(value: object, name: str) -> list[Message]:
    """The messages of a list of turns, of one turn, or of either as text.

    Raises:
        BadRow: it is none of these, or a turn has more than a role and a text.
    """
    value = turns_in(value, name)
    turns = [value] if isinstance(value, dict) else value
    if not isinstance(turns, list):
        raise BadRow(f"{name} is not a conversation")
    if not turns:
        raise BadRow(f"{name} is empty")
    messages: list[Message] = []
    for turn in turns:
        if not isinstance(turn, dict):
            raise BadRow(f"{name} is neither text nor a conversation")
        messages.append(_message(turn, name))
    last = turns[-1]
    if len(last) > 2 and messages[-1]["role"] == "assistant" and any(_unlearned(*item) for item in last.items()):
        raise BadRow("the last answer is marked as one not to learn from")
    return messages


def is_conversation(value: object) -> bool:
    """Whether a value is a turn or a list of turns; of a text, what `turns_in` makes of it tells."""
    return is_turn(value) or (isinstance(value, list) and bool(value) and all(map(is_turn, value)))


def dialogue(value: str, name: str) -> list[Message]:
    """Messages of a text in which "Human:" and "Assistant:" take turns (HH-RLHF, Nectar).

    >>> dialogue("\\n\\nHuman: Hi\\n\\nAssistant: Hello", "chosen")[1]
    {'role': 'assistant', 'content': 'Hello'}
    """
    before, *pieces = _SPEAKER.split(value)
    if before.strip() or not pieces:
        raise BadRow(f"{name} is no dialogue of Human: and Assistant:")
    speakers, said = pieces[::2], pieces[1::2]
    return [{"role": _SPEAKERS[who], "content": what.strip()} for who, what in zip(speakers, said, strict=True)]


def is_dialogue(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and bool(_SPEAKER.match(value))


def dialogue_on(value: object, messages: Sequence[Message], name: str) -> object:
    """The turns of a text that is a whole dialogue of Human: and Assistant: with the last turn of `messages` in it.

    Anything else, such as a text that is asked to be a dialogue, as it is.
    """
    if not messages or not is_dialogue(value):
        return value
    turns, (asked,) = dialogue(value, name), _bare(messages[-1:])
    return turns if turns[0]["role"] == "user" and turns[-1]["role"] == "assistant" and asked in _bare(turns) else value


def stays_text(value: str) -> bool:
    """Whether a text that is written to a field is read as that text again, and not as a conversation."""
    try:
        return not is_dialogue(value) and turns_in(value, "text") == value
    except BadRow:
        return False


def history(value: object, name: str) -> list[Message]:
    """Earlier turns: pairs of what was asked and answered (LLaMA-Factory), a conversation, or a dialogue."""
    if is_blank(value):
        return []
    if is_dialogue(value):
        return dialogue(value, name)
    found = turns_in(list_in(value, name), name)
    if is_conversation(found):
        return conversation(found, name)
    messages: list[Message] = []
    for pair in found if isinstance(found, list) else [found]:
        match pair:
            case [str(asked), str(answered)]:
                messages += [_said("user", asked), _said("assistant", answered)]
            case _:
                raise BadRow(f"{name} is not a list of pairs of texts")
    return messages


def joined(lead: list[Message], more: list[Message], name: str) -> list[Message]:
    """The conversation that a prompt and the beginning of its answer's conversation make together.

    That beginning may repeat the prompt, or its end only, or go on from it; the prompt may be one turn of it.

    Raises:
        BadRow: they have nothing in common.
    """
    a, b = _bare(lead), _bare(more)
    if not a or any(b[i : i + len(a)] == a for i in range(len(b) - len(a) + 1)):
        return more or lead
    common = next((n for n in range(min(len(a), len(b)), 0, -1) if a[-n:] == b[:n]), 0)
    if b and not common and b[0][0] != "assistant":
        raise BadRow(f"{name} answers another conversation than the prompt")
    return [*lead, *more[common:]]


def _bare(messages: Sequence[Message]) -> list[tuple[str, str]]:
    return [(message["role"], message["content"].strip()) for message in messages]


def _said(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def _message(turn: Turn, name: str) -> Message:
    # Most turns have nothing but role and content.
    for key in turn if len(turn) > 2 or not is_turn(turn) else ():
        part = part_of(key)
        if (part in BEYOND_TEXT and not is_blank(turn[key])) or (part == "passage" and texts_in(turn[key])):
            raise BadRow(f"a message has {key}, and only its text can be kept")
    who, what = next(((who, what) for who, what in KEYS if who in turn and what in turn), ("", ""))
    if not who:
        fields = ", ".join(map(str, turn)) or "none"
        raise BadRow(
            "a message without role and content",
            f"field {name}: a message with the fields: {fields}",
            "each message of a conversation has a role and a content",
            "rename its fields to role and content",
        )
    if not isinstance(role := turn[who], str):
        raise BadRow(f"{name} has a message without a role")
    known = ROLES.get(role) or ROLES.get(role.strip().lower())
    if known is None:
        raise BadRow(f"a message has the role {role[:_SHOWN]!r}, which is none of system, user and assistant")
    return _said(known, _content(turn[what], name))


def _content(value: object, name: str) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        raise BadRow(f"{name} has a message without text")
    if not isinstance(value, list) or not value:
        raise BadRow(NOT_TEXT)
    return "\n".join(map(_part, value))


def _part(part: object) -> str:
    """The text of one part of a message; several are lines, as vLLM joins them."""
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping):
        raise BadRow(NOT_TEXT)
    kind, text = part.get("type", "text"), part.get("text")
    if kind not in _TEXT_PARTS:
        raise BadRow(f"a message has a part of the type {str(kind)[:_SHOWN]!r}, and only text can be kept")
    if not isinstance(text, str):
        raise BadRow(NOT_TEXT)
    return text


def _unlearned(key: str, mark: object) -> bool:
    """Whether a key of a turn says that it is not to be learned; a number or word in it may stand as text."""
    part = part_of(key)
    if part not in ("learned", "masked"):
        return False
    if isinstance(mark, str):
        try:
            mark = json.loads(mark.strip().lower())
        except (ValueError, RecursionError):
            return False
    return isinstance(mark, bool | int | float) and (mark != 1 if part == "learned" else mark != 0)
