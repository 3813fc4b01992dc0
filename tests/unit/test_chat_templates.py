"""Named chat templates: their published text, one BOS, and an exact boundary between prompt and answer."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from rayalign.config.data import ChatTemplate
from rayalign.errors import DataError, ModelError
from tests.renderers import answer_ids, prompt_ids, renderer

USER = {"role": "user", "content": "Name a fish."}
SYSTEM = {"role": "system", "content": "Be brief."}
ANSWER = {"role": "assistant", "content": "Cod."}
ENDS = {"openchat": "<|end_of_turn|>", "chatml": "<|im_end|>"}
AROUND = {"openchat": (" ", ""), "llama-2": (" ", " "), "mistral": (" ", "")}
"""What the template writes before an answer, and behind it before its end."""
NAMES: list[ChatTemplate] = ["alpaca", "zephyr", "openchat", "llama-2", "mistral", "chatml"]
ODD = ["Cod.", " cod", "\ncod", "ok\u200d🐟", "שלום", "a\x00b", "", "### Response:", "[/INST] x", "</s> x"]


@cache
def made(eos: str = "</s>", adds_bos: bool = True, sentencepiece: bool = False, marks: bool = True) -> Any:
    """A tokenizer of all 256 bytes, in GPT-2's way or in SentencePiece's."""
    special = ["<s>", "</s>", *(["<|im_start|>", "<|im_end|>", "<|end_of_turn|>"] if marks else [])]
    if sentencepiece:
        pieces = {piece: place for place, piece in enumerate([*special, *(f"<0x{byte:02X}>" for byte in range(256))])}
        for piece in ("\u2581", "a", "\u2581a", "C", "\u2581C"):
            pieces[piece] = len(pieces)
        merges = [("\u2581", "a"), ("\u2581", "C")]
        words = Tokenizer(models.BPE(pieces, merges, byte_fallback=True))
        words.pre_tokenizer = pre_tokenizers.Metaspace("\u2581", prepend_scheme="first")
        words.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace("\u2581")])
        words.add_special_tokens(special)
    else:
        words = Tokenizer(models.BPE())
        words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        words.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=280, special_tokens=special, initial_alphabet=alphabet)
        words.train_from_iterator([":Cod. Cod\n<|assistant|>\n [/INST] Cod"] * 4, trainer)
    if adds_bos:
        words.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<s>", eos_token=eos, clean_up_tokenization_spaces=False
    )


def tokenizer_of(name: str, **options: Any) -> Any:
    return made(ENDS.get(name, "</s>"), **options)


def text_of(messages: list[dict[str, str]], name: ChatTemplate, **options: Any) -> str:
    tokenizer = tokenizer_of(name, **options)
    return tokenizer.decode(prompt_ids(messages, tokenizer, name))


ALPACA = "Below is an instruction that describes a task. Write a response that appropriately completes the request."


@pytest.mark.parametrize(
    ("name", "messages", "text"),
    [
        ("alpaca", [USER], f"<s>{ALPACA}\n\n### Instruction:\nName a fish.\n\n### Response:"),
        ("alpaca", [SYSTEM, USER], "<s>Be brief.\n\n### Instruction:\nName a fish.\n\n### Response:"),
        ("zephyr", [USER], "<s><|user|>\nName a fish.</s>\n<|assistant|>\n"),
        ("zephyr", [SYSTEM, USER], "<s><|system|>\nBe brief.</s>\n<|user|>\nName a fish.</s>\n<|assistant|>\n"),
        ("openchat", [USER], "<s>GPT4 Correct User: Name a fish.<|end_of_turn|>GPT4 Correct Assistant:"),
        ("llama-2", [USER], "<s>[INST] Name a fish. [/INST]"),
        ("llama-2", [SYSTEM, USER], "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nName a fish. [/INST]"),
        ("mistral", [USER], "<s>[INST] Name a fish. [/INST]"),
        ("mistral", [SYSTEM, USER], "<s>[INST] Be brief.\n\nName a fish. [/INST]"),
        ("chatml", [USER], "<s><|im_start|>user\nName a fish.<|im_end|>\n<|im_start|>assistant\n"),
    ],
)
def test_prompts_as_published(name: ChatTemplate, messages: list[dict[str, str]], text: str) -> None:
    assert text_of(messages, name) == text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("alpaca", "### Response:Cod.</s>\n\n### Instruction:\nName a fish.\n\n### Response:"),
        ("zephyr", "<|assistant|>\nCod.</s>\n<|user|>\nName a fish.</s>\n<|assistant|>\n"),
        (
            "openchat",
            "Correct Assistant: Cod.<|end_of_turn|>GPT4 Correct User: Name a fish.<|end_of_turn|>"
            "GPT4 Correct Assistant:",
        ),
        ("llama-2", "[/INST] Cod. </s><s>[INST] Name a fish. [/INST]"),
        ("mistral", "[/INST] Cod.</s>[INST] Name a fish. [/INST]"),
        (
            "chatml",
            "assistant\nCod.<|im_end|>\n<|im_start|>user\nName a fish.<|im_end|>\n<|im_start|>assistant\n",
        ),
    ],
)
def test_earlier_turns_as_published(name: ChatTemplate, text: str) -> None:
    assert text_of([USER, ANSWER, USER], name).endswith(text)


@pytest.mark.parametrize("sentencepiece", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_the_prompt_is_a_prefix_of_prompt_and_answer(name: ChatTemplate, sentencepiece: bool) -> None:
    """The whole conversation, tokenised at once, is the prompt's tokens and then the answer's."""
    tokenizer = tokenizer_of(name, sentencepiece=sentencepiece)
    prompt = prompt_ids([SYSTEM, USER], tokenizer, name)
    for answer in ["Cod.", "a", "🐟", "a\nb"]:
        turns = [SYSTEM, USER, {"role": "assistant", "content": answer}, USER]
        whole = prompt_ids(turns, tokenizer, name)
        both = prompt + answer_ids(answer, tokenizer, name)
        assert whole[: len(both)] == both


@pytest.mark.parametrize("name", [*NAMES, "none"])
@pytest.mark.parametrize("text", ODD)
def test_odd_answers_keep_their_text_and_end_once(name: ChatTemplate, text: str) -> None:
    """An answer's tokens are its text; what it holds does not move the boundary."""
    tokenizer = tokenizer_of(name)
    ids = answer_ids(text, tokenizer, name)
    before, after = AROUND.get(name, ("", ""))
    assert tokenizer.decode(ids[:-1]) == before + text + after
    assert ids[-1] == tokenizer.convert_tokens_to_ids(ENDS.get(name, "</s>"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("adds_bos", [True, False])
def test_one_bos_where_the_tokenizer_writes_one(name: ChatTemplate, adds_bos: bool) -> None:
    tokenizer = tokenizer_of(name, adds_bos=adds_bos)
    ids = prompt_ids([USER], tokenizer, name)
    assert ids.count(tokenizer.bos_token_id) == adds_bos
    assert (ids[0] == tokenizer.bos_token_id) == adds_bos


def test_sentencepiece_gives_the_space_once() -> None:
    tokenizer = tokenizer_of("mistral", sentencepiece=True)
    ids = answer_ids("C", tokenizer, "mistral")
    assert tokenizer.convert_ids_to_tokens(ids) == ["\u2581C", "</s>"]


@pytest.mark.parametrize("name", ["chatml", "openchat"])
def test_templates_whose_marks_the_tokenizer_lacks(name: ChatTemplate) -> None:
    mark = {"chatml": "<|im_start|>", "openchat": "<|end_of_turn|>"}[name]
    with pytest.raises(ModelError, match=re.escape(f"needs the token {mark}, which ")):
        renderer(made("</s>", marks=False), name)


@pytest.mark.parametrize("name", ["chatml", "openchat"])
def test_an_end_that_is_not_the_eos_stops_sampling_too(name: ChatTemplate) -> None:
    tokenizer = made("</s>")
    end = tokenizer.convert_tokens_to_ids(ENDS[name])
    assert renderer(tokenizer, name).stop_ids == [end]
    assert answer_ids("Cod.", tokenizer, name)[-1] == end
    assert renderer(tokenizer_of(name), name).stop_ids == []


def test_a_template_needs_an_eos() -> None:
    with pytest.raises(ModelError, match="ends an answer with the EOS token"):
        renderer(PreTrainedTokenizerFast(tokenizer_object=made().backend_tokenizer), "alpaca")


@pytest.mark.parametrize("name", ["llama-2", "mistral"])
def test_turns_that_do_not_take_turns(name: ChatTemplate) -> None:
    with pytest.raises(DataError, match="must take turns"):
        text_of([USER, USER], name)


@pytest.mark.parametrize("name", ["llama-2", "mistral", "alpaca"])
def test_a_role_that_the_template_has_not(name: ChatTemplate) -> None:
    with pytest.raises(DataError, match="roles tool, user"):
        text_of([{"role": "tool", "content": "x"}, USER], name)
