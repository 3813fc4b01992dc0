"""From text to token ids, the one place where that is done: prompts, and answers that no model sampled.

The chat template is the tokenizer's own, one of `data/chat_templates.py`, or none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Literal

from rayalign.config.data import ChatTemplate
from rayalign.data.chat_templates import TEMPLATES
from rayalign.data.prompts import PromptRow, PromptRows
from rayalign.errors import DataError, ModelError
from rayalign.records import Message, Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

AT_ONCE = 256
"""Conversations that the tokenizer is given together."""


def fitting_prompts(
    rows: PromptRows, tokenizer: PreTrainedTokenizerBase, template: ChatTemplate, max_tokens: int
) -> Iterator[Prompt]:
    """`tokenize_prompts`, one at a time; the longer ones are counted in `rows.left_out`."""
    for row, token_ids in _tokenized(rows.rows, tokenizer, template):
        if len(token_ids) > max_tokens:
            rows.left_out.add(f"longer than prompts.max_tokens = {max_tokens}", f"{row.id} ({len(token_ids)} tokens)")
        else:
            yield Prompt(row.id, row.messages, token_ids, row.target, row.metadata)


def tokenize_prompts(
    rows: Iterable[PromptRow], tokenizer: PreTrainedTokenizerBase, template: ChatTemplate, max_tokens: int
) -> tuple[list[Prompt], list[tuple[str, int]]]:
    """The prompts of at most `max_tokens` tokens, and (id, tokens) of the longer ones: nothing is ever cut.

    `auto` applies the chat template of `tokenizer` with its generation header, a name one of
    `data/chat_templates.py`; `none` gives the model the bare text of the last message. The BOS token stands at most
    once.

    Raises:
        ModelError: the tokenizer lacks the chat template, or a token that the named one needs.
        DataError: the template refuses a conversation, or a prompt has no tokens.
    """
    prompts: list[Prompt] = []
    too_long: list[tuple[str, int]] = []
    for row, token_ids in _tokenized(rows, tokenizer, template):
        if len(token_ids) > max_tokens:
            too_long.append((row.id, len(token_ids)))
        else:
            prompts.append(Prompt(row.id, row.messages, token_ids, row.target, row.metadata))
    return prompts, too_long


def _tokenized(
    rows: Iterable[PromptRow], tokenizer: PreTrainedTokenizerBase, template: ChatTemplate
) -> Iterator[tuple[PromptRow, list[int]]]:
    check_template(tokenizer, template)
    source = iter(rows)
    while some := list(islice(source, AT_ONCE)):
        yield from zip(some, _tokenize_some(some, tokenizer, template), strict=True)


def _tokenize_some(
    rows: Sequence[PromptRow], tokenizer: PreTrainedTokenizerBase, template: ChatTemplate
) -> list[list[int]]:
    """As `tokenize_messages` does each of them, in one call of the tokenizer where all have the template."""
    from jinja2 import TemplateError

    if template != "none":
        try:
            found = _apply([row.messages for row in rows], tokenizer, template)
            if all(found):
                return [_single_bos(token_ids, tokenizer) for token_ids in found]
        except TemplateError:
            pass  # One by one tells which conversation it is.
    return [tokenize_messages(row.messages, tokenizer, template, f"prompt {row.id}") for row in rows]


def _apply(
    conversations: list[Message] | list[list[Message]], tokenizer: PreTrainedTokenizerBase, template: ChatTemplate
) -> list:
    apply = partial(tokenizer.apply_chat_template, tokenize=True, add_generation_prompt=True, return_dict=False)
    if template == "auto":
        found = apply(conversations)
    else:
        found = apply(conversations, chat_template=TEMPLATES[template].jinja, bos=_bos(tokenizer))
    assert isinstance(found, list)
    return found


def tokenize_messages(
    messages: list[Message], tokenizer: PreTrainedTokenizerBase, template: ChatTemplate, name: str
) -> list[int]:
    """Token ids of one conversation up to the model's turn, with at most one BOS.

    Raises:
        DataError: the template refuses the conversation, or nothing is left of it; `name` tells which one.
    """
    token_ids = _bare(messages, tokenizer) if template == "none" else _templated(messages, tokenizer, template, name)
    token_ids = _single_bos(token_ids, tokenizer)
    if not token_ids:
        raise DataError(f"{name} has no tokens", "the tokenizer drops all of its text", "remove that row")
    return token_ids


def tokenize_answer(answer: str, tokenizer: PreTrainedTokenizerBase, template: ChatTemplate) -> list[int]:
    """Token ids of a whole answer behind its prompt, with its EOS: prompt and answer never share a token.

    Raises:
        ModelError: the tokenizer has no EOS.
    """
    eos = eos_id(tokenizer)
    if template not in TEMPLATES:
        return [*tokenizer(answer, add_special_tokens=False, verbose=False)["input_ids"], eos]
    before, after = TEMPLATES[template].around_answer
    return [*_inner_tokens(before + answer + after, tokenizer), eos]


def eos_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id of the token that ends an answer.

    Raises:
        ModelError: the tokenizer has no EOS.
    """
    eos = tokenizer.eos_token_id
    if isinstance(eos, int):
        return eos
    raise ModelError(
        "the tokenizer has no EOS token",
        "a whole answer ends with one",
        "use a model whose tokenizer names its eos_token",
    )


def tokenize_conversation(
    messages: list[Message], tokenizer: PreTrainedTokenizerBase, template: Literal["auto", "none"], name: str
) -> list[int]:
    """Token ids of a prompt with its answer, as the scorer of reward models reads them.

    Raises:
        DataError: the template refuses the conversation; `name` tells which one.
    """
    if template == "none":
        return tokenizer("\n".join(message["content"] for message in messages[-2:]))["input_ids"]
    with _explained(messages, name):
        text = tokenizer.apply_chat_template(messages, tokenize=False)
    assert isinstance(text, str)
    # The template has written BOS and EOS itself.
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def check_template(tokenizer: PreTrainedTokenizerBase, template: ChatTemplate) -> None:
    """Whether the tokenizer has what the chat template needs.

    Raises:
        ModelError: it has not.
    """
    tokenizer_name = f"the tokenizer of {getattr(tokenizer, 'name_or_path', '') or 'this model'!r}"
    if template == "auto" and not getattr(tokenizer, "chat_template", None):
        raise ModelError(
            f"{tokenizer_name} has no chat template",
            "prompts.template is auto, which is the model's own template",
            "set prompts.template: none to give the model the bare text, or one by name "
            f"({', '.join(TEMPLATES)}), or use an instruction-tuned model",
        )
    if template not in TEMPLATES:
        return
    named = TEMPLATES[template]
    remedy = "set prompts.template to one that the model was trained with (auto: its own)"
    for mark in named.marks:
        if len(tokenizer(mark, add_special_tokens=False)["input_ids"]) != 1:
            raise ModelError(
                f"prompts.template: {template} needs the token {mark}, which {tokenizer_name} lacks",
                "the model would see the mark in pieces, as if it were text",
                remedy,
            )
    if tokenizer.eos_token is None or named.end not in (None, tokenizer.eos_token):
        raise ModelError(
            f"prompts.template: {template} ends an answer with {named.end or 'the EOS token'}, and the EOS of "
            f"{tokenizer_name} is {tokenizer.eos_token}",
            "sampling would not stop at the end of an answer",
            remedy,
        )


def fill(template: str, **fields: str) -> str:
    """`template` with each {name} replaced; braces in what is filled in, or of other names, stay as they are."""
    pattern = "|".join(re.escape(f"{{{name}}}") for name in fields)
    return re.sub(pattern, lambda match: fields[match.group()[1:-1]], template)


def _templated(
    messages: list[Message], tokenizer: PreTrainedTokenizerBase, template: ChatTemplate, name: str
) -> list[int]:
    with _explained(messages, name):
        return list(_apply(messages, tokenizer, template))


@contextmanager
def _explained(messages: list[Message], name: str) -> Iterator[None]:
    """Turn what a chat template raises into an error that names the conversation.

    Raises:
        DataError: in its place.
    """
    from jinja2 import TemplateError

    try:
        yield
    except TemplateError as error:
        roles = ", ".join(message["role"] for message in messages)
        why = f"the chat template refuses it: {error}"
        remedy = "change that row, or set prompts.template: none"
        raise DataError(f"{name} has the roles {roles}", why, remedy) from None


def _bare(messages: list[Message], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The text's tokens; some tokenizers close every text with an EOS, which would end the answer before it starts."""
    text, eos = messages[-1]["content"], tokenizer.eos_token_id
    token_ids = list(tokenizer(text)["input_ids"])
    plain = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    eos_added = eos is not None and token_ids[-1:] == [eos] and token_ids[-len(plain) :] != plain
    return token_ids[:-1] if eos_added else token_ids


def _single_bos(token_ids: list[int], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    bos = tokenizer.bos_token_id
    while bos is not None and token_ids[:2] == [bos, bos]:
        token_ids = token_ids[1:]
    return token_ids


def _bos(tokenizer: PreTrainedTokenizerBase) -> str:
    """The BOS token where the tokenizer puts it before plain text."""
    bos = tokenizer.bos_token_id
    return str(tokenizer.bos_token) if bos is not None and tokenizer("a")["input_ids"][:1] == [bos] else ""


def _inner_tokens(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Tokens of a text that stands behind another: SentencePiece puts a space before one that stands alone."""
    ids, anchor, alone = (tokenizer(t, add_special_tokens=False)["input_ids"] for t in ("\n" + text, "\n", text))
    return list(ids[len(anchor) :] if ids[: len(anchor)] == anchor else alone)
