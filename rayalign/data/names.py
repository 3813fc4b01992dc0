"""Names of a row's fields by what they hold, however they are spelled: system_prompt, systemPrompt. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Literal

Part = Literal[
    "system", "history", "tools", "media", "files", "thoughts", "input", "passage", "holder", "guidance", "choices",
    "body", "begun", "learned", "masked",
]  # fmt: skip

_SPELLINGS: dict[Part, str] = {
    "system": "system systemprompt systemprompts systemprompttext systemmessage systemmessages systemmsg "
    "systeminstruction systeminstructions systemcontent systemtext systemturn sys sysprompt sysmessage sysmsg "
    "sysinstruction sysinstructions developerprompt developermessage",
    "history": "history chathistory conversationhistory dialoghistory dialoguehistory messagehistory messageshistory "
    "previousmessages previousturns pastmessages pastturns",
    "tools": "toolcalls toolcall functioncall functioncalls tools functions availabletools tooldefinitions toolschemas",
    "media": "image images audio audios video videos attachment attachments",
    "files": "file files",
    "thoughts": "reasoningcontent reasoning reasoningdetails reasoningtext thinking thinkingcontent thinkingblocks "
    "thinkcontent thought thoughts cot chainofthought",
    "input": "input",
    "holder": "metadata meta extra extrainfo info",
    "passage": "context contexts passage passages paragraph paragraphs article articles document documents knowledge "
    "story stories body background premise sourcetext "
    "docs ctx ctxs excerpt excerpts retrievedcontext retrievedcontexts retrieveddocuments retrievedpassages",
    "guidance": "persona personas personality instructions preamble",
    "choices": "choices options answerchoices answeroptions possibleanswers",
    "body": "text content",
    "begun": "initialreasonsteps prefill assistantprefill assistantprefix responseprefix answerprefix",
    "learned": "weight lossweight loss lossmask train training trained trainable istrainable istrained trainonturn "
    "learn learnable computeloss includeinloss",
    "masked": "mask masked ismasked maskloss ignore ignored ignoreloss",
}
_PARTS: dict[str, Part] = {name: part for part, names in _SPELLINGS.items() for name in names.split()}
"""Files and learned, masked are read of turns, guidance (a system turn or a note on the row?), choices, body and begun
(the beginning of an answer) of rows."""
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
