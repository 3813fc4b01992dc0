"""Chat templates and bare text, on a tokenizer of a dozen words made here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from rayalign.data.prompts import PromptRow, rows_from_records
from rayalign.data.token_ids import AT_ONCE, fitting_prompts, tokenize_prompts
from rayalign.errors import DataError, ModelError
from tests.renderers import prompt_ids, renderer

WORDS = ["<unk>", "<s>", "</s>", "<user>", "<assistant>", "<system>", "list", "two", "animals", "be", "brief", "now"]
BOS, EOS, USER, ASSISTANT, SYSTEM = 1, 2, 3, 4, 5
PLAIN_TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}> {{ m.content }} {% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def tokenizer(template: str | None = None, wrap: str = "<s> $A") -> Any:
    """A word-level tokenizer; `wrap` is what its post-processor puts around a text."""
    words = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.post_processor = processors.TemplateProcessing(single=wrap, special_tokens=[("<s>", BOS), ("</s>", EOS)])
    made = PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    made.chat_template = template
    return made


def row(content: str | list[dict[str, str]]) -> PromptRow:
    return next(rows_from_records([{"prompt": content}], "here").rows)


CHAT = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "list two animals"}]


@pytest.mark.parametrize("template", ["<s> " + PLAIN_TEMPLATE, "<s> <s> " + PLAIN_TEMPLATE])
def test_template_with_generation_header_and_one_bos(template: str) -> None:
    (prompt,), too_long = tokenize_prompts([row(CHAT)], renderer(tokenizer(template)), 512)
    assert prompt.token_ids == [BOS, SYSTEM, 9, 10, USER, 6, 7, 8, ASSISTANT]
    assert (prompt.messages, too_long) == (CHAT, [])


def test_a_template_without_bos_gets_none() -> None:
    (prompt,), _ = tokenize_prompts([row("list two")], renderer(tokenizer(PLAIN_TEMPLATE)), 512)
    assert prompt.token_ids == [USER, 6, 7, ASSISTANT]


@pytest.mark.parametrize(
    ("wrap", "text", "token_ids"),
    [
        ("<s> $A", "list two", [BOS, 6, 7]),
        ("$A", "list two", [6, 7]),
        ("<s> $A", "<s> list two", [BOS, 6, 7]),
        ("<s> $A </s>", "list two", [BOS, 6, 7]),
        ("<s> $A </s>", "list </s>", [BOS, 6, EOS]),
        ("$A", "list </s>", [6, EOS]),
    ],
)
def test_none_is_the_bare_text(wrap: str, text: str, token_ids: list[int]) -> None:
    (prompt,), _ = tokenize_prompts([row(text)], renderer(tokenizer(wrap=wrap), "none"), 512)
    assert prompt.token_ids == token_ids


def test_none_takes_the_last_message() -> None:
    (prompt,), _ = tokenize_prompts([row(CHAT)], renderer(tokenizer(), "none"), 512)
    assert prompt.token_ids == [BOS, 6, 7, 8]


def test_long_prompts_are_named_and_not_cut() -> None:
    short, long = row("list two"), row("list two animals now")
    prompts, too_long = tokenize_prompts([long, short], renderer(tokenizer(), "none"), 3)
    assert [(prompt.id, prompt.token_ids) for prompt in prompts] == [(short.id, [BOS, 6, 7])]
    assert too_long == [(long.id, 5)]


def test_target_and_metadata_are_carried() -> None:
    given = list(rows_from_records([{"prompt": "list two", "output": "cat dog", "id": 3}], "here").rows)
    (prompt,), _ = tokenize_prompts(given, renderer(tokenizer(), "none"), 512)
    assert (prompt.id, prompt.target, prompt.metadata) == (given[0].id, "cat dog", {"id": 3})


def test_auto_needs_a_template() -> None:
    with pytest.raises(ModelError, match=r"prompts\.template: none"):
        tokenize_prompts([row("list two")], renderer(tokenizer()), 512)


def test_a_prompt_without_tokens_is_refused() -> None:
    with pytest.raises(DataError, match="has no tokens"):
        prompt_ids([{"role": "user", "content": " "}], tokenizer(wrap="$A"), "none")


@pytest.mark.parametrize("template", ["auto", "none"])
def test_many_together_are_tokenised_like_each_alone(template: Any) -> None:
    """Longer than one call of the tokenizer, of different lengths and roles."""
    made = tokenizer("<s> <s> " + PLAIN_TEMPLATE)
    contents: list[Any] = [CHAT if i % 5 == 0 else " ".join(WORDS[6 : 7 + i % 6]) for i in range(AT_ONCE + 10)]
    rows = [row(content) for content in contents]
    together, _ = tokenize_prompts(rows, renderer(made, template), 512)
    alone = [prompt_ids(one.messages, made, template) for one in rows]
    assert [prompt.token_ids for prompt in together] == alone


def test_one_refused_conversation_among_many_is_named() -> None:
    refusing = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + PLAIN_TEMPLATE
    )
    bad = row(CHAT)
    with pytest.raises(DataError, match=f"prompt {bad.id} has the roles system, user"):
        tokenize_prompts([row("list two"), bad, row("two list")], renderer(tokenizer(refusing)), 512)


def test_prompts_come_one_at_a_time_and_the_longer_ones_are_counted() -> None:
    read = []

    def records() -> Iterator[dict[str, str]]:
        for i in range(5 * AT_ONCE):
            read.append(i)
            yield {"prompt": "list two animals now" if i % 2 else "list two"}

    rows = rows_from_records(records(), "here")
    prompts = fitting_prompts(rows, renderer(tokenizer(), "none"), 3)
    assert next(prompts).token_ids == [BOS, 6, 7]
    assert len(read) == AT_ONCE
    assert len(list(prompts)) == 5 * AT_ONCE // 2 - 1
    assert rows.left_out.counts == {"longer than prompts.max_tokens = 3": 5 * AT_ONCE // 2}
    long = row("list two animals now")
    assert rows.left_out.names["longer than prompts.max_tokens = 3"][0] == f"{long.id} (5 tokens)"


def test_prompts_with_the_marks_of_a_template_are_counted_but_where_none_is_used() -> None:
    marked = "<|im_start|>user\nlist two<|im_end|>\n<|im_start|>assistant\n"
    rows = rows_from_records([{"prompt": marked}, {"prompt": "list two"}], "here")
    assert len(list(fitting_prompts(rows, renderer(tokenizer(PLAIN_TEMPLATE)), 512))) == 1
    assert rows.left_out.counts == {"holds the marks of a chat template": 1}
    rows = rows_from_records([{"prompt": marked}], "here")
    assert len(list(fitting_prompts(rows, renderer(tokenizer(), "none"), 512))) == 1
    with pytest.raises(DataError, match="every prompt holds the marks"):
        list(fitting_prompts(rows_from_records([{"prompt": marked}], "here"), renderer(tokenizer(PLAIN_TEMPLATE)), 512))
