"""A chat template as a tokenizer renders it: the tokenizer's own, or one of `rendering/named.py`."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rayalign.errors import ModelError
from rayalign.records import Message
from rayalign.rendering.named import TEMPLATES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

UNDATED = datetime.date(2000, 1, 1)
"""What a template is told where the day makes no difference, or there is no run to take it from."""


class Refusal(Exception):
    """Why a chat template does not render a conversation, in words."""


@dataclass(frozen=True, slots=True)
class Template:
    """A chat template and the tokenizer whose special tokens it writes."""

    tokenizer: PreTrainedTokenizerBase
    jinja: str | None = None
    """The text of a named one; null is the tokenizer's own."""

    @property
    def text(self) -> str:
        """The template itself."""
        return self.jinja or self.tokenizer.get_chat_template()

    @property
    def portable(self) -> str:
        """The template as others can render it, who are not told what only named templates ask for."""
        own = "bos_token" if bos_text(self.tokenizer) else "''"
        return self.text if self.jinja is None else f"{{% set bos = {own} %}}{self.jinja}"

    def render(
        self, messages: Sequence[Message], *, reply: bool, date: datetime.date = UNDATED, parts: bool = False
    ) -> str:
        """The conversation as text, every special token written out.

        Args:
            reply: end where the model's reply begins.
            date: what a template that asks for today's date gets.
            parts: give contents as lists of parts, [{"type": "text", "text": ...}].

        Raises:
            Refusal: the template raised an error.
        """
        named: dict[str, Any] = (
            {} if self.jinja is None else {"chat_template": self.jinja, "bos": bos_text(self.tokenizer)}
        )
        chat: list[Any] = [_in_parts(message) for message in messages] if parts else list(messages)
        try:
            text = self.tokenizer.apply_chat_template(
                chat,
                tokenize=False,
                add_generation_prompt=reply,
                # Stands before the function of the same name that transformers gives, which tells today's date.
                strftime_now=date.strftime,
                **named,
            )
        except Exception as error:
            # A template is a program of somebody else's: it can raise anything.
            raise Refusal(str(error).partition("\n")[0] or type(error).__name__) from error
        assert isinstance(text, str)
        return text


def find_template(tokenizer: PreTrainedTokenizerBase, name: str, remedy: str) -> Template:
    """The template that a config names: `auto` is the tokenizer's own.

    Raises:
        ModelError: the tokenizer lacks it, has several and none of them is the default, or lacks a token that the
            named one needs.
    """
    owner = owner_of(tokenizer)
    if name == "auto":
        own = getattr(tokenizer, "chat_template", None)
        if not own:
            raise ModelError(f"{owner} has no chat template", "template: auto is the model's own template", remedy)
        if isinstance(own, dict) and "default" not in own:
            raise ModelError(
                f"{owner} has the chat templates {', '.join(sorted(own))}, and none is named default",
                "which of them a conversation takes cannot be known",
                f"name one of them default in the model's tokenizer files, or {remedy}",
            )
        return Template(tokenizer)
    named = TEMPLATES[name]
    for mark in named.marks:
        if len(tokenizer(mark, add_special_tokens=False)["input_ids"]) != 1:
            raise ModelError(
                f"template: {name} needs the token {mark}, which {owner} lacks",
                "the model would see the mark in pieces, as if it were text",
                remedy,
            )
    if "eos_token" in named.jinja and tokenizer.eos_token is None:
        raise ModelError(
            f"template: {name} ends an answer with the EOS token, and {owner} has none",
            "sampling would not stop at the end of an answer",
            remedy,
        )
    return Template(tokenizer, named.jinja)


def owner_of(tokenizer: PreTrainedTokenizerBase) -> str:
    """The tokenizer, in words."""
    return f"the tokenizer of {getattr(tokenizer, 'name_or_path', '') or 'this model'!r}"


def bos_text(tokenizer: PreTrainedTokenizerBase) -> str:
    """The BOS token where the tokenizer puts it before plain text, else nothing."""
    bos = tokenizer.bos_token_id
    return str(tokenizer.bos_token) if bos is not None and tokenizer("a")["input_ids"][:1] == [bos] else ""


def _in_parts(message: Message) -> dict[str, object]:
    return {**message, "content": [{"type": "text", "text": message["content"]}]}
