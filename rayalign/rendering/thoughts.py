"""What a model says, without what it thinks aloud before."""

from __future__ import annotations

import re

_ANY_LETTERS = r"[^<>\[\]◁▷\s/]{0,20}"
_THOUGHT = rf"(?:think|thought|reason){_ANY_LETTERS}[>\]▷]"
_THOUGHT_ENDS = re.compile(rf"[<\[◁](?:/{_ANY_LETTERS}|\|?end_of_){_THOUGHT}", re.IGNORECASE)
_THOUGHT_BEGINS = re.compile(rf"[<\[◁]{_ANY_LETTERS}{_THOUGHT}", re.IGNORECASE)


def without_thoughts(response: str) -> str:
    """What a response says behind its thoughts, in `<think>...</think>` and tags like it; open ones have no end."""
    spoken = response[max((tag.end() for tag in _THOUGHT_ENDS.finditer(response)), default=0) :]
    return _THOUGHT_BEGINS.split(spoken, maxsplit=1)[0]
