"""The demo policy as users of it see it: a Hugging Face folder that obeys about half of the time."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from rayalign.demo import world
from rayalign.demo.language import CONTEXT, build_tokenizer
from rayalign.demo.policy import demo_policy

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture(scope="module")
def folder() -> Path:
    return demo_policy()


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder).eval()


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "  two  spaces ",
        "tab\tnew\r\nline\n",
        "naïve Ünïcödé",
        "漢字かな 🍏\u200d🍏",
        "\x00\x07\x7f a\u0301",
        "Can 't you , do this .",
        "".join(chr(code) for code in range(1, 0x500)),
    ],
)
def test_any_text_round_trips(tokenizer, text):
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert tokenizer.unk_token_id not in ids


@pytest.mark.parametrize("word", [*world.WORDS, *world.CATEGORIES, *world.COUNTS.values(), "done", "thanks", "and"])
def test_words_are_single_tokens(tokenizer, word):
    assert len(tokenizer(f" {word}", add_special_tokens=False)["input_ids"]) == 1
    if word in world.WORDS:
        assert len(tokenizer(word, add_special_tokens=False)["input_ids"]) == 1


def test_tokenizer_is_deterministic_and_small(tokenizer):
    assert build_tokenizer().get_vocab() == tokenizer.get_vocab()
    assert 256 < len(tokenizer) < 1_000
    assert len({tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}) == 3


def test_prompts_and_answers_are_short(tokenizer):
    for row in world.prompts()[::20]:
        ids = tokenizer.apply_chat_template(row["messages"], add_generation_prompt=True, return_dict=False)
        assert len(ids) <= 40


def test_template_opens_and_closes_the_assistant_turn(tokenizer):
    question = [{"role": "user", "content": "List 2 tools."}]
    dialogue = [*question, {"role": "assistant", "content": "saw, axe."}]
    opened = tokenizer.apply_chat_template(question, tokenize=False, add_generation_prompt=True)
    assert opened == "<|bos|><|user|>List 2 tools.<|assistant|>"
    assert tokenizer.apply_chat_template(dialogue, tokenize=False) == f"{opened}saw, axe.<|eos|>"
    whole = tokenizer.apply_chat_template(dialogue, return_dict=False)
    start = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_dict=False)
    assert whole[: len(start)] == start
    assert whole[-1] == tokenizer.eos_token_id


def test_model_is_what_the_engine_needs(model, tokenizer):
    config = model.config
    assert config.architectures == ["LlamaForCausalLM"]
    assert config.max_position_embeddings == CONTEXT >= 1_024
    assert config.tie_word_embeddings
    assert config.vocab_size == len(tokenizer)
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id


def test_a_second_call_trains_nothing(folder):
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "generation_config.json"} <= set(before)
    started = time.monotonic()
    assert demo_policy() == folder
    assert time.monotonic() - started < 2
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert not list(folder.parent.glob(f".{folder.name}.partial"))


def test_a_failed_training_leaves_no_folder_and_says_why(tmp_path, monkeypatch):
    from rayalign.demo import cache
    from rayalign.errors import ModelError

    monkeypatch.setattr(cache.sys, "executable", "/bin/false")
    before = dict(os.environ)
    with pytest.raises(ModelError, match="exit status 1"):
        demo_policy(tmp_path)
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]
    assert dict(os.environ) == before


def test_obeys_about_half_of_the_time(model, tokenizer):
    import torch

    rows = [row for row in world.prompts() if row["metadata"]["split"] == "holdout"][:128]
    tokenizer.padding_side = "left"
    inputs = tokenizer.apply_chat_template(
        [row["messages"] for row in rows],
        add_generation_prompt=True,
        padding=True,
        return_tensors="pt",
        return_dict=True,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sampled = model.generate(**inputs, do_sample=True, temperature=1.0, top_k=0, max_new_tokens=64)
    greedy = model.generate(**inputs, do_sample=False, max_new_tokens=64)
    start = inputs["input_ids"].shape[1]

    def scores(output: torch.Tensor) -> list[float]:
        texts = tokenizer.batch_decode(output[:, start:], skip_special_tokens=True)
        return [world.score("", text, row["metadata"]) for text, row in zip(texts, rows, strict=True)]

    sampled_scores, greedy_scores = scores(sampled), scores(greedy)
    pass_rate = sampled_scores.count(1.0) / len(rows)
    assert 0.25 < pass_rate < 0.6
    assert sum(sampled_scores) / len(rows) > pass_rate + 0.15
    assert greedy_scores.count(1.0) / len(rows) >= 0.85
    ended = (sampled[:, start:] == tokenizer.eos_token_id).any(dim=1).float().mean().item()
    assert ended > 0.97
