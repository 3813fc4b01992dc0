"""From rows to tokenised prompts, with the model's own chat template or with none."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Literal

from rayalign.data.prompts import PromptRow
from rayalign.errors import DataError, ModelError
from rayalign.records import Message, Prompt


def tokenize_prompts(
    rows: Iterable[PromptRow], tokenizer: Any, template: Literal["auto", "none"], max_tokens: int
) -> tuple[list[Prompt], list[tuple[str, int]]]:
    """The prompts of at most `max_tokens` tokens, and (id, tokens) of the longer ones: nothing is ever cut.

    `auto` applies the chat template of `tokenizer` (a Hugging Face one) with its generation header; `none` gives the
    model the bare text of the last message. The BOS token stands at most once.

    Raises:
        ModelError: `auto`, and the tokenizer has no chat template.
        DataError: the template refuses a conversation, or a prompt has no tokens.
    """
    if template == "auto" and not getattr(tokenizer, "chat_template", None):
        raise ModelError(
            f"the tokenizer of {getattr(tokenizer, 'name_or_path', '') or 'this model'!r} has no chat template",
            "prompts.template is auto, which is the model's own template",
            "set prompts.template: none to give the model the bare text, or use an instruction-tuned model",
        )
    prompts: list[Prompt] = []
    too_long: list[tuple[str, int]] = []
    for row in rows:
        token_ids = tokenize_messages(row.messages, tokenizer, template, f"prompt {row.id}")
        if len(token_ids) > max_tokens:
            too_long.append((row.id, len(token_ids)))
        else:
            prompts.append(Prompt(row.id, row.messages, token_ids, row.target, row.metadata))
    return prompts, too_long


def tokenize_messages(
    messages: list[Message], tokenizer: Any, template: Literal["auto", "none"], name: str
) -> list[int]:
    """Token ids of one conversation up to the model's turn, with at most one BOS.

    Raises:
        DataError: the template refuses the conversation, or nothing is left of it; `name` tells which one.
    """
    token_ids = _templated(messages, tokenizer, name) if template == "auto" else _bare(messages, tokenizer)
    token_ids = _single_bos(token_ids, tokenizer)
    if not token_ids:
        raise DataError(f"{name} has no tokens", "the tokenizer drops all of its text", "remove that row")
    return token_ids


def tokenize_answer(text: str, tokenizer: Any) -> list[int]:
    """Token ids of a whole answer, its EOS at the end.

    Raises:
        ModelError: the tokenizer has no EOS.
    """
    if tokenizer.eos_token_id is None:
        raise ModelError("the tokenizer has no EOS token", "a whole answer ends with one",
                         "use a model whose tokenizer names its eos_token")  # fmt: skip
    return [*tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"], tokenizer.eos_token_id]


def fill(template: str, **fields: str) -> str:
    """`template` with each {name} replaced; braces in what is filled in, or of other names, stay as they are."""
    pattern = "|".join(re.escape(f"{{{name}}}") for name in fields)
    return re.sub(pattern, lambda match: fields[match.group()[1:-1]], template)


def _templated(messages: list[Message], tokenizer: Any, name: str) -> list[int]:
    from jinja2 import TemplateError

    try:
        token_ids = tokenizer.apply_chat_template(
            messages, tokenize=True, add_generation_prompt=True, return_dict=False
        )
    except TemplateError as error:
        roles = ", ".join(message["role"] for message in messages)
        why = f"the model's chat template refuses it: {error}"
        remedy = "change that row, or set prompts.template: none"
        raise DataError(f"{name} has the roles {roles}", why, remedy) from None
    return list(token_ids)


def _bare(messages: list[Message], tokenizer: Any) -> list[int]:
    """The text's tokens; some tokenizers close every text with an EOS, which would end the answer before it starts."""
    text, eos = messages[-1]["content"], tokenizer.eos_token_id
    token_ids = list(tokenizer(text)["input_ids"])
    plain = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    eos_added = eos is not None and token_ids[-1:] == [eos] and token_ids[-len(plain) :] != plain
    return token_ids[:-1] if eos_added else token_ids


def _single_bos(token_ids: list[int], tokenizer: Any) -> list[int]:
    bos = tokenizer.bos_token_id
    while bos is not None and token_ids[:2] == [bos, bos]:
        token_ids = token_ids[1:]
    return token_ids
