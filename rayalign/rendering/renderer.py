"""From conversations to token ids, the one place where that is done: for the policy, datasets, scorers, judges, export.

Prompt and answer are the first tokens of the whole conversation: its text is the template's, and a token ends where
the answer begins, as when it is sampled.
"""

from __future__ import annotations

import copy
import datetime
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rayalign.errors import DataError, ModelError
from rayalign.records import Message
from rayalign.rendering.named import TEMPLATES
from rayalign.rendering.probe import Form, probe
from rayalign.rendering.template import Refusal, Template, find_template, owner_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

REMEDY = (
    "use a model with a chat template that does, set prompts.template: none to give the model the bare text, "
    f"or one by name ({', '.join(TEMPLATES)})"
)


class ChatRenderer:
    """Conversations as one model reads them.

    Args:
        template: `auto` is the tokenizer's own, `none` the bare text, else a name of `rendering/named.py`.
        date: what templates that ask for today's date get: the day of the run, whenever they are rendered.
        given: answers are given, not sampled: a prompt ends where the template puts a given answer.
        remedy: what the error recommends where the template cannot be used.

    Raises:
        ModelError: the template cannot be used; see `find_template` and `probe`.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        template: str,
        date: datetime.date,
        *,
        given: bool = False,
        remedy: str = REMEDY,
    ) -> None:
        self.tokenizer, self.name, self.date, self.given = tokenizer, template, date, given
        eos = tokenizer.eos_token_id
        self._eos = eos if isinstance(eos, int) else None
        self.template: Template | None = None
        self.form = Form(self._eos)
        if template != "none":
            self.template = find_template(tokenizer, template, remedy)
            self.form = probe(self.template, remedy)
        self._lead = self._behind(self.form.special_lead) if self.form.special_lead else []

    def behind_given(self) -> ChatRenderer:
        """The same for answers that are given."""
        twin = copy.copy(self)
        twin.given = True
        return twin

    @property
    def identity(self) -> str:
        """What the rendering hangs on beside the tokenizer's files: the template's name, and the day it is told."""
        dated = self.template is not None and "strftime_now" in self.template.text
        return f"{self.name} {self.date}" if dated else self.name

    @property
    def end(self) -> int:
        """The id of the token that ends an answer.

        Raises:
            ModelError: there is none.
        """
        if self.form.end is None:
            raise ModelError(
                f"{owner_of(self.tokenizer)} has no EOS token",
                "a whole answer ends with one, and the chat template writes no other",
                "use a model whose tokenizer names its eos_token",
            )
        return self.form.end

    @property
    def stop_ids(self) -> list[int]:
        """Tokens at which sampling must stop beside the tokenizer's EOS."""
        return [] if self.form.end in (None, self._eos) else [self.end]

    def prompt(self, messages: Sequence[Message], name: str) -> list[int]:
        """Token ids of one conversation up to the model's turn, with at most one BOS.

        Args:
            name: of the conversation, for errors.

        Raises:
            DataError: the template refuses the conversation, or nothing is left of it.
        """
        return self.prompts([(messages, name)])[0]

    def prompts(self, conversations: Sequence[tuple[Sequence[Message], str]]) -> list[list[int]]:
        """`prompt` of each of some conversations, in one call of the tokenizer."""
        if self.template is None:
            found = [self._bare(messages) for messages, _ in conversations]
        else:
            found = self._ids([self._asked(messages, name) for messages, name in conversations])
        for token_ids, (_, name) in zip(found, conversations, strict=True):
            if not token_ids:
                raise DataError(f"{name} has no tokens", "the tokenizer drops all of its text", "remove that row")
        return [self._single_bos(token_ids) for token_ids in found]

    def answer(self, messages: Sequence[Message], text: str, name: str) -> list[int]:
        """Token ids of a whole answer behind its prompt, to the token that ends it: they never share a token.

        Raises:
            DataError: the template refuses the conversation.
            ModelError: there is no token that ends an answer.
        """
        end = self.end
        if self.template is None:
            return [*self._ids([text])[0], end]
        _, rest = self._whole(messages, text, name)
        return [*self._behind(rest[: len(rest) - len(self.form.tail)] + self.form.before_end), end]

    def conversation(self, messages: Sequence[Message], name: str) -> list[int]:
        """Token ids of a prompt with its answer, its last message, as a model that reads both gets them.

        Raises:
            DataError: the template refuses the conversation.
        """
        *asked, last = messages
        if self.template is None:
            return self.tokenizer("\n".join(message["content"] for message in messages[-2:]))["input_ids"]
        before, rest = self._whole(asked, last["content"], name)
        # Not in one piece: some tokenizers would merge what stands on both sides of the boundary.
        return [*self._single_bos(self._ids([before])[0]), *self._behind(rest)]

    def loses_thinking(self, answer: str) -> bool:
        """Whether the template leaves out a part of an answer: what stands in its <think> block."""
        return self.form.drops_thinking and "</think>" in answer

    def spoken(self, text: str, token_ids: Sequence[int]) -> str:
        """A sampled text without what the template writes before an answer by itself.

        Args:
            text: of the tokens, which leaves out the special ones.
            token_ids: tell the words between a lead's special tokens from an answer that begins alike.
        """
        if not self._lead:
            return text.removeprefix(self.form.lead)
        if not self._decoded(token_ids, special=True).startswith(self._decoded(self._lead, special=True)):
            return text
        words = self._decoded(self._lead, special=False)
        # Behind a prompt SentencePiece's first word has its space; alone it has none.
        before, _, behind = text.partition(words) if words else ("", "", text)
        return (text if before.strip() else behind).removeprefix(self.form.lead.removeprefix(self.form.special_lead))

    def text_of(self, answer: Sequence[int]) -> str:
        """The text of an answer's tokens, without what ends it."""
        ids = list(answer[:-1]) if answer and answer[-1] == self.form.end else list(answer)
        return self.spoken(self._decoded(ids, special=False), ids)

    def _decoded(self, token_ids: Sequence[int], *, special: bool) -> str:
        """The text of tokens, with or without the special ones."""
        text = self.tokenizer.decode(list(token_ids), skip_special_tokens=not special)
        assert isinstance(text, str)
        return text

    def _asked(self, messages: Sequence[Message], name: str) -> str:
        """The conversation up to the model's turn."""
        for role, wrong in (("system", self.form.system), ("assistant", self.form.turns)):
            if wrong is not None and any(message["role"] == role for message in messages):
                raise _refused(messages, name, wrong)
        text = self._text(messages, name, reply=True)
        for message in messages:
            # Switches in a system message are the template's matter.
            if message["role"] != "system" and not _comes_out(message["content"], text):
                raise _refused(
                    messages,
                    name,
                    f"the chat template leaves out the text of role {message['role']}, or a part of it, or changes it",
                )
        return text.removesuffix(self.form.opened) if self.given else text

    def _whole(self, messages: Sequence[Message], answer: str, name: str) -> tuple[str, str]:
        """(the conversation up to the answer, the answer and what stands behind it), as the template renders them.

        Some templates write a system message only where the model's reply is next: there the answer is put behind the
        prompt as in the pair of the probe.
        """
        form = self.form
        asked = self._asked(messages, name).removesuffix(form.opened)
        whole = self._text([*messages, {"role": "assistant", "content": answer}], name, reply=False)
        rest = whole[len(asked) :]
        if whole.startswith(asked) and rest.endswith(form.tail):
            if not _comes_out(answer, rest):
                why = "the chat template leaves out a part of the answer, or changes it"
                raise _refused([*messages, {"role": "assistant", "content": answer}], name, why)
            return asked, rest
        return asked, form.lead + answer + form.tail

    def _text(self, messages: Sequence[Message], name: str, *, reply: bool) -> str:
        assert self.template is not None
        try:
            return self.template.render(messages, reply=reply, date=self.date, parts=self.form.parts)
        except Refusal as error:
            raise _refused(messages, name, f"the chat template refuses it: {error}") from None

    def _ids(self, texts: list[str]) -> list[list[int]]:
        """Token ids of texts in which every special token is written out."""
        return self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]

    def _behind(self, text: str) -> list[int]:
        """Tokens of a text that stands behind a prompt: alone, SentencePiece would put a space before it."""
        for before in filter(None, (self.form.closing, "\n")):
            anchor, both = self._ids([before, before + text])
            if both[: len(anchor)] == anchor:
                return both[len(anchor) :]
        return self._ids([text])[0]

    def _bare(self, messages: Sequence[Message]) -> list[int]:
        """The last text's tokens; an EOS that the tokenizer puts behind every text would end the answer before it
        starts."""
        text = messages[-1]["content"]
        token_ids = list(self.tokenizer(text)["input_ids"])
        plain = self._ids([text])[0]
        eos_added = self._eos is not None and token_ids[-1:] == [self._eos] and token_ids[-len(plain) :] != plain
        return token_ids[:-1] if eos_added else token_ids

    def _single_bos(self, token_ids: list[int]) -> list[int]:
        bos = self.tokenizer.bos_token_id
        while bos is not None and token_ids[:2] == [bos, bos]:
            token_ids = token_ids[1:]
        return token_ids


def _comes_out(content: str, text: str) -> bool:
    """Whether a rendering holds a content as it is, but for what trimming and the template's care for thoughts do."""
    return content.rpartition("</think>")[2].strip() in text


def _refused(messages: Sequence[Message], name: str, why: str) -> DataError:
    roles = ", ".join(message["role"] for message in messages)
    return DataError(f"{name} has the roles {roles}", why, "change that row, or set prompts.template: none")
