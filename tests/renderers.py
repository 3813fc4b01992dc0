"""How tests render conversations: the project's own renderer, told a day that makes no difference."""

from __future__ import annotations

import functools
from typing import Any

from rayalign.records import Message
from rayalign.rendering.renderer import ChatRenderer
from rayalign.rendering.template import UNDATED

ASKED: list[Message] = [{"role": "user", "content": "x"}]


@functools.cache
def renderer(tokenizer: Any, template: str = "auto", *, given: bool = False) -> ChatRenderer:
    return ChatRenderer(tokenizer, template, UNDATED, given=given)


def prompt_ids(messages: list[Message], tokenizer: Any, template: str = "auto") -> list[int]:
    return renderer(tokenizer, template).prompt(messages, "a prompt")


def answer_ids(text: str, tokenizer: Any, template: str = "auto") -> list[int]:
    return renderer(tokenizer, template).answer(ASKED, text, "an answer")
