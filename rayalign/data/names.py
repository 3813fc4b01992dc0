"""Names of a row's fields by what they hold, however they are spelled: system_prompt, systemPrompt. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Literal

Part = Literal["system", "history", "tools", "media", "thoughts", "input", "passage", "holder"]

_SPELLINGS: dict[Part, str] = {
    "system": "system systemprompt systemmessage systemmsg systeminstruction systeminstructions systemcontent "
    "systemtext systemturn sysprompt sysmessage developerprompt developermessage",
    "history": "history chathistory conversationhistory dialoghistory dialoguehistory messagehistory messageshistory "
    "previousmessages previousturns pastmessages pastturns",
    "tools": "toolcalls toolcall functioncall functioncalls tools functions availabletools tooldefinitions toolschemas",
    "media": "image images audio audios video videos",
    "thoughts": "reasoningcontent reasoning thinking",
    "input": "input",
    "holder": "metadata meta extra extrainfo info",
    "passage": "context passage paragraph article document knowledge",
}
_PARTS: dict[str, Part] = {name: part for part, names in _SPELLINGS.items() for name in names.split()}
_BETWEEN = re.compile(r"[\W_]+")


@lru_cache(maxsize=4096)
def squashed(name: str) -> str:
    """The name in small letters alone.

    >>> squashed("System Prompt"), squashed("systemPrompt"), squashed("system_prompt")
    ('systemprompt', 'systemprompt', 'systemprompt')
    """
    return _BETWEEN.sub("", name).lower()


@lru_cache(maxsize=4096)
def part_of(name: str) -> Part | None:
    """What of a conversation a field or key of this name holds, beside the prompt and its answers."""
    return _PARTS.get(squashed(name))


def named(names: Iterable[str], part: Part) -> list[str]:
    """Those of `names` that hold such a part."""
    return [name for name in names if part_of(name) == part]
