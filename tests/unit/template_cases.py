"""Chat templates in the shapes of six families of models, and byte tokenizers with the special tokens of each.

Written for these tests after the published forms: where BOS stands, what opens and ends a turn, who refuses or moves a
system message, who trims, who thinks aloud, who tells the date.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

_THOUGHTLESS = "{% if '</think>' in text %}{% set text = text.split('</think>')[-1] %}{% endif %}"

CHATML = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou help.<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA_3 = (
    "{{ bos_token }}<|start_header_id|>system<|end_header_id|>\n\n"
    "Today Date: {{ strftime_now('%d %b %Y') }}\n\n"
    "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] | trim }}{% set messages = messages[1:] %}"
    "{% endif %}<|eot_id|>"
    "{% for message in messages %}<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n"
    "{{ message['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for message in messages %}"
    "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "<start_of_turn>{{ role }}\n{{ message['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
MISTRAL = (
    "{% if messages[0]['role'] == 'system' %}{% set head = messages[0]['content'] %}{% set messages = messages[1:] %}"
    "{% endif %}{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "[INST] {% if loop.last and head is defined %}{{ head + '\n\n' }}{% endif %}{{ message['content'] }}[/INST]"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] | trim + eos_token }}"
    "{% else %}{{ raise_exception('only user and assistant') }}{% endif %}{% endfor %}"
)
QWEN_3 = (
    "{% set last = namespace(user=-1) %}"
    "{% for message in messages %}{% if message['role'] == 'user' %}{% set last.user = loop.index0 %}{% endif %}"
    "{% endfor %}{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['role'] == 'assistant' %}{% set text = message['content'] %}{% set thought = '' %}"
    "{% if '</think>' in text %}{% set thought = text.split('</think>')[0].split('<think>')[-1].strip('\n') %}"
    "{% set text = text.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{% if loop.index0 > last.user %}<think>\n{{ thought }}\n</think>\n\n{{ text.lstrip('\n') }}{% else %}{{ text }}"
    "{% endif %}{% else %}{{ message['content'] }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
R1 = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}{{ message['content'] }}"
    "{% elif message['role'] == 'user' %}<|User|>{{ message['content'] }}"
    "{% else %}{% set text = message['content'] %}" + _THOUGHTLESS + "<|Assistant|>{{ text }}{{ eos_token }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|Assistant|><think>\n{% endif %}"
)
LINES = r"\s*[\r\n]+|\s+(?!\S)|\s+|[^\s]+"


@dataclass(frozen=True)
class Family:
    """A template and what its tokenizer has; the first of `tokens` is the EOS, the second the BOS."""

    template: str
    tokens: tuple[str, ...]
    end: str
    """The token that ends an answer."""
    adds_bos: bool = False
    """Whether the tokenizer puts a BOS before plain text."""
    plain: tuple[str, ...] = ()
    """Added tokens that are not special."""
    system: bool = True


FAMILIES = {
    "chatml": Family(CHATML, ("<|im_end|>", "<|endoftext|>", "<|im_start|>"), "<|im_end|>"),
    "llama-3": Family(
        LLAMA_3,
        ("<|end_of_text|>", "<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"),
        "<|eot_id|>",
        adds_bos=True,
    ),
    "gemma": Family(
        GEMMA, ("<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"), "<end_of_turn>", adds_bos=True, system=False
    ),
    "mistral": Family(MISTRAL, ("</s>", "<s>", "[INST]", "[/INST]"), "</s>", adds_bos=True),
    "qwen-3": Family(
        QWEN_3, ("<|im_end|>", "<|endoftext|>", "<|im_start|>"), "<|im_end|>", plain=("<think>", "</think>")
    ),
    "r1": Family(R1, ("<|end|>", "<|begin|>", "<|User|>", "<|Assistant|>"), "<|end|>", plain=("<think>", "</think>")),
}


@functools.cache
def tokenizer_of(name: str) -> Any:
    family = FAMILIES[name]
    return byte_tokenizer(family.template, family.tokens, family.plain, adds_bos=family.adds_bos)


def byte_tokenizer(
    template: Any,
    tokens: tuple[str, ...] = ("</s>", "<s>"),
    plain: tuple[str, ...] = (),
    *,
    adds_bos: bool = False,
    lines: bool = True,
) -> Any:
    """A tokenizer of all 256 bytes and a merge across two line breaks; EOS and BOS are the first of `tokens`.

    Args:
        lines: split texts as Llama 3 and Qwen do, where line breaks stay together whatever follows; else as GPT-2 does.
    """
    eos, bos, *_ = tokens
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: place for place, piece in enumerate([*tokens, *plain, *letters, "\u010a\u010a"])}
    words = Tokenizer(models.BPE(vocabulary, [("\u010a", "\u010a")]))
    split = pre_tokenizers.Split(Regex(LINES), "isolated")
    plainly = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not lines)
    words.pre_tokenizer = pre_tokenizers.Sequence([split, plainly]) if lines else plainly
    words.decoder = decoders.ByteLevel()
    words.add_special_tokens(list(tokens))
    words.add_tokens(list(plain))
    if adds_bos:
        words.post_processor = processors.TemplateProcessing(f"{bos} $A", special_tokens=[(bos, vocabulary[bos])])
    made = PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token=eos, bos_token=bos, clean_up_tokenization_spaces=False
    )
    made.chat_template = template
    return made


def piece_tokenizer(template: str, tokens: tuple[str, ...]) -> Any:
    """The same in SentencePiece's way, which writes spaces into the pieces; EOS and BOS are the first of `tokens`."""
    eos, bos, *_ = tokens
    pieces = [*tokens, *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", "a", "\u2581a"]
    vocabulary = {piece: place for place, piece in enumerate(pieces)}
    words = Tokenizer(models.BPE(vocabulary, [("\u2581", "a")], byte_fallback=True))
    words.pre_tokenizer = pre_tokenizers.Metaspace("\u2581", prepend_scheme="first")
    words.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace("\u2581")])
    words.add_special_tokens(list(tokens))
    made = PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token=eos, bos_token=bos, clean_up_tokenization_spaces=False
    )
    made.chat_template = template
    return made
