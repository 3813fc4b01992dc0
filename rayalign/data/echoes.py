"""Answers that repeat what they answer, as datasets have them that were made for a model without a template. Pure."""

from __future__ import annotations

import re
from dataclasses import replace

from rayalign.data.dataset import BadRow, DatasetRow

_GREETING = re.compile(
    r"(?:hi|hello|hey|yo|good|thanks?|welcome|bye|goodbye|greetings|yes|no|ok|okay|sure)\b", re.IGNORECASE
)
_GREETING_WORDS = 3
_BETWEEN = re.compile(r"\A(?:[^\S\n]*\n)+|\A[^\S\n]+")
_OPEN = re.compile(
    r"(?:^|\n)[#\s]*(?:answer|assistant|response|output|solution|completion|bot|ai|a)\s*:\s*\Z", re.IGNORECASE
)
_SIDES = 2


def without_echo(row: DatasetRow, asked: str) -> DatasetRow:
    """The row with answers that begin behind the last turn, `asked`, where all of them repeat it.

    Of more than two answers one may be a model's own echo, and stays. A target alone, such as a whole function that
    was asked for by its head, stays too, but behind a turn that leaves an answer open: "Question: ... Answer:".

    Raises:
        BadRow: one side of a pair repeats the prompt, and the other does not.
    """
    texts = [one.text for one in row.completions]
    texts += [] if row.target is None or row.target in texts else [row.target]
    if not row.completions and not _OPEN.search(asked):
        return row
    behind = {text: rest for text in texts if (rest := _behind(text, asked)) is not None}
    if not behind:
        return row
    if len(behind) < len(set(texts)):
        if len(texts) > _SIDES:
            return row
        raise BadRow(
            "one answer begins with the prompt, and another does not",
            why="the prompt would be learned as a part of the answer",
            remedy="let all answers of a row begin with the prompt, or none",
        )
    completions = [replace(one, text=behind[one.text]) for one in row.completions]
    return replace(row, completions=completions, target=None if row.target is None else behind[row.target])


def _behind(text: str, asked: str) -> str | None:
    """What a text says behind the prompt that it repeats, without the space between; None where it does not."""
    prompt, said = asked.strip(), text.lstrip()
    if not said.startswith(prompt) or _is_greeting(prompt):
        return None
    rest = said[len(prompt) :]
    ends = not prompt[-1].isalnum() or rest[:1].isspace()
    return _BETWEEN.sub("", rest) if ends and rest.strip() else None


def _is_greeting(prompt: str) -> bool:
    """Whether a prompt is a word, or a few of a greeting, that an answer may well say too."""
    words = len(prompt.split())
    return words == 1 or (words <= _GREETING_WORDS and _GREETING.match(prompt) is not None)
