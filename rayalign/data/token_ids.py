"""From prompts to token ids, as many at once as the tokenizer takes; what is too long is named and never cut."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain, islice

from rayalign.data.marks import MARKED, written_twice
from rayalign.data.prompts import PromptRow, PromptRows
from rayalign.errors import DataError
from rayalign.records import Prompt
from rayalign.rendering.renderer import ChatRenderer

AT_ONCE = 256
"""Conversations that the tokenizer is given together."""


def fitting_prompts(rows: PromptRows, renderer: ChatRenderer, max_tokens: int) -> Iterator[Prompt]:
    """`tokenize_prompts`, one at a time after the first; the longer ones are counted in `rows.left_out`.

    Raises:
        DataError: the source's or the template's, or none is short enough.
    """
    prompts = _fitting(rows, renderer, max_tokens)
    return chain([next(prompts)], prompts)


def _fitting(rows: PromptRows, renderer: ChatRenderer, max_tokens: int) -> Iterator[Prompt]:
    found, shortest = 0, 0
    for row, token_ids in _tokenized(rows.rows, renderer):
        if written_twice(row.messages, templated=renderer.template is not None):
            rows.left_out.add(MARKED, row.id)
        elif len(token_ids) > max_tokens:
            rows.left_out.add(f"longer than prompts.max_tokens = {max_tokens}", f"{row.id} ({len(token_ids)} tokens)")
            shortest = min(shortest or len(token_ids), len(token_ids))
        else:
            found += 1
            yield Prompt(row.id, row.messages, token_ids, row.target, row.metadata)
    if not found and not shortest:
        raise DataError(
            f"prompts.source: every prompt {MARKED}",
            "the run's own template would write such marks once more around it",
            "give messages with role and content, or set prompts.template: none",
        )
    if not found:
        raise DataError(
            f"prompts.max_tokens = {max_tokens}: no prompt of prompts.source is that short",
            f"the shortest has {shortest} tokens with the chat template, and prompts are never cut",
            f"set prompts.max_tokens to {shortest} or more, or give shorter prompts",
        )


def tokenize_prompts(
    rows: Iterable[PromptRow], renderer: ChatRenderer, max_tokens: int
) -> tuple[list[Prompt], list[tuple[str, int]]]:
    """The prompts of at most `max_tokens` tokens, and (id, tokens) of the longer ones: nothing is ever cut.

    Raises:
        DataError: the template refuses a conversation, or a prompt has no tokens.
    """
    prompts: list[Prompt] = []
    too_long: list[tuple[str, int]] = []
    for row, token_ids in _tokenized(rows, renderer):
        if len(token_ids) > max_tokens:
            too_long.append((row.id, len(token_ids)))
        else:
            prompts.append(Prompt(row.id, row.messages, token_ids, row.target, row.metadata))
    return prompts, too_long


def _tokenized(rows: Iterable[PromptRow], renderer: ChatRenderer) -> Iterator[tuple[PromptRow, list[int]]]:
    source = iter(rows)
    while some := list(islice(source, AT_ONCE)):
        yield from zip(some, renderer.prompts([(row.messages, f"prompt {row.id}") for row in some]), strict=True)


def fill(template: str, **fields: str) -> str:
    """`template` with each {name} replaced; braces in what is filled in, or of other names, stay as they are."""
    pattern = "|".join(re.escape(f"{{{name}}}") for name in fields)
    return re.sub(pattern, lambda match: fields[match.group()[1:-1]], template)
