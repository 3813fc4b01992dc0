"""Reward models on real tiny ones: the same rewards as one text at a time, whatever the batch; and what is refused."""

from __future__ import annotations

import datetime
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, strategies as st
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from rayalign.config.rewards import RewardModelScoring
from rayalign.demo.language import CHAT_TEMPLATE, build_tokenizer
from rayalign.errors import ModelError
from rayalign.records import Prompt, Sample
from rayalign.scoring.models.reward_model import RewardModelScorer, check_reward_model
from rayalign.scoring.models.text_model import plan_batches

SHAPE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
TEXTS = ["apple", "lemon, plum. done", "", "a longer answer with many, many words in it", "cat and dog!", "x" * 40]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer()


def save(folder: Path, model: Any, tokenizer: Any) -> Path:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def llama(tokenizer: Any, *, labels: int = 1, pad: bool = True, context: int = 256) -> Any:
    torch.manual_seed(0)
    ids = {"pad_token_id": tokenizer.pad_token_id} if pad else {}
    config = LlamaConfig(
        **SHAPE, vocab_size=len(tokenizer), num_key_value_heads=2, num_labels=labels, initializer_range=0.3,
        max_position_embeddings=context, **ids,
    )  # fmt: skip
    return LlamaForSequenceClassification(config)


@pytest.fixture(scope="module")
def folder(tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("rm"), llama(tokenizer), tokenizer)


def scorer(folder: Path, **settings: Any) -> RewardModelScorer:
    return RewardModelScorer(RewardModelScoring(type="reward_model", model=str(folder), **settings), folder, "sha")


def inputs(texts: list[str], question: str = "Name two fruits.") -> tuple[list[Prompt], list[Sample]]:
    prompt = Prompt("p", [{"role": "system", "content": "Be brief."}, {"role": "user", "content": question}], [1])
    return [prompt] * len(texts), [Sample("p", i, text, [5], [-1.0], "stop", 0, 0) for i, text in enumerate(texts)]


def alone(folder: Path, tokenizer: Any, texts: list[str]) -> list[float]:
    """Each text in a forward pass of its own, with the model as Hugging Face loads it."""
    model = LlamaForSequenceClassification.from_pretrained(folder).eval()
    rewards = []
    for prompt, sample in zip(*inputs(texts), strict=True):
        chat = [*prompt.messages, {"role": "assistant", "content": sample.text}]
        ids = tokenizer.apply_chat_template(chat, tokenize=True, return_dict=False)
        with torch.inference_mode():
            rewards.append(model(input_ids=torch.tensor([ids])).logits.item())
    return rewards


@pytest.mark.parametrize("budget", [1, 60, 8192])
def test_rewards_are_those_of_each_text_alone(folder: Path, tokenizer: PreTrainedTokenizerFast, budget: int) -> None:
    scores = scorer(folder, tokens_per_batch=budget).score(*inputs(TEXTS))
    assert [s.status for s in scores] == ["ok"] * len(TEXTS)
    expected = alone(folder, tokenizer, TEXTS)
    assert [s.reward for s in scores] == pytest.approx(expected, abs=1e-4)
    assert max(expected) - min(expected) > 0.1
    assert all(s.aspects == {} for s in scores)


def test_a_model_without_padding_goes_one_at_a_time(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    save(tmp_path, llama(tokenizer, pad=False), tokenizer)
    scores = scorer(tmp_path).score(*inputs(TEXTS))
    assert [s.reward for s in scores] == pytest.approx(alone(tmp_path, tokenizer, TEXTS), abs=1e-4)


def test_without_a_template_the_text_is_plain(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    plain = build_tokenizer()
    plain.chat_template = None
    torch.manual_seed(0)
    config = BertConfig(
        **SHAPE, vocab_size=len(tokenizer), num_labels=1, max_position_embeddings=256, initializer_range=0.3,
        pad_token_id=plain.pad_token_id,
    )  # fmt: skip
    model = BertForSequenceClassification(config).eval()
    save(tmp_path, model, plain)
    scores = scorer(tmp_path).score(*inputs(TEXTS))
    for text, score in zip(TEXTS, scores, strict=True):
        with torch.inference_mode():
            ids = torch.tensor([plain(f"Name two fruits.\n{text}")["input_ids"]])
            assert score.reward == pytest.approx(model(input_ids=ids).logits.item(), abs=1e-4)


def test_template_none_ignores_the_template(folder: Path) -> None:
    one = scorer(folder, template="none")
    (ids,) = one.tokens(*inputs(["plum"]))
    assert ids == build_tokenizer()("Name two fruits.\nplum")["input_ids"]
    assert one.version != scorer(folder).version


def test_truncation_keeps_the_answer_and_is_counted(folder: Path) -> None:
    one = scorer(folder, max_tokens=16)
    prompts, samples = inputs(["plum", "word " * 30])
    whole = one.tokens(prompts, samples)
    scores = one.score(prompts, samples)
    assert len(whole[1]) > 16
    cut = [whole[1][0], *whole[1][-15:]]
    assert scores[1].reward == pytest.approx(one.forward([cut])[0], abs=1e-5)
    assert [s.aspects.get("truncated") for s in scores] == [1.0 if len(ids) > 16 else None for ids in whole]
    (short,) = scorer(folder).score(*inputs(["plum"]))
    assert short.aspects == {}


def test_the_models_context_is_the_limit(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    save(tmp_path, llama(tokenizer, context=32), tokenizer)
    (score,) = scorer(tmp_path).score(*inputs(["word " * 100]))
    assert (score.status, score.aspects) == ("ok", {"truncated": 1.0})


def test_bfloat16_is_near_float32(folder: Path) -> None:
    full, half = (scorer(folder, dtype=dtype) for dtype in ("float32", "bfloat16"))
    exact = [s.reward for s in full.score(*inputs(TEXTS))]
    near = [s.reward for s in half.score(*inputs(TEXTS))]
    assert near == pytest.approx(exact, abs=0.2)
    assert near != exact
    assert full.version != half.version


def test_a_reward_that_is_not_finite_is_an_error(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """The token of one answer has an infinite embedding: its own reward is lost, the other's is not."""
    model = llama(tokenizer)
    (token,) = tokenizer("plum", add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        model.model.embed_tokens.weight[token] = math.inf
    save(tmp_path, model, tokenizer)
    bad, good = scorer(tmp_path).score(*inputs(["plum", "lemon"]))
    assert (bad.status, bad.reward) == ("error", None)
    assert bad.reason == "the model's reward is nan"
    assert good.status == "ok"


def test_nothing_gives_nothing(folder: Path) -> None:
    assert scorer(folder).score([], []) == []


def test_unequal_lengths_raise(folder: Path) -> None:
    prompts, samples = inputs(["a", "b"])
    with pytest.raises(ValueError, match="zip"):
        scorer(folder).score(prompts[:1], samples)


def test_two_labels_are_refused_before_anything_is_loaded(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    save(tmp_path, llama(tokenizer, labels=2), tokenizer)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ModelError) as caught:
        check_reward_model(tmp_path)
    assert "has 2 labels" in caught.value.found
    assert "num_labels = 1" in caught.value.remedy


def test_a_causal_model_is_refused(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """Loaded as a classifier, it would get a random head."""
    config = LlamaConfig(**SHAPE, vocab_size=64, num_key_value_heads=2, num_labels=1)
    save(tmp_path, LlamaForCausalLM(config), tokenizer)
    with pytest.raises(ModelError, match="LlamaForCausalLM"):
        check_reward_model(tmp_path)


def test_a_head_that_is_missing_is_refused(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["score.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks score\.weight"):
        scorer(tmp_path)


@pytest.mark.parametrize("lost", ["score.weight", "model.layers.1.mlp.up_proj.weight"])
def test_weights_that_would_be_random_are_refused_before_the_start(folder: Path, tmp_path: Path, lost: str) -> None:
    """As of a language model whose config was edited into a reward model's."""
    from safetensors.torch import load_file, save_file

    check_reward_model(folder)
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    weights = load_file(tmp_path / "model.safetensors")
    del weights[lost]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError) as caught:
        check_reward_model(tmp_path)
    assert f"lacks {lost}" in caught.value.found and "random" in caught.value.why and caught.value.remedy


def test_another_tasks_head_beside_its_own_does_no_harm(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    weights = load_file(tmp_path / "model.safetensors")
    save_file({**weights, "lm_head.weight": torch.zeros(2, 32)}, tmp_path / "model.safetensors", {"format": "pt"})
    check_reward_model(tmp_path)


def test_a_head_of_two_rows_under_a_config_of_one_label_is_refused(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    weights = load_file(tmp_path / "model.safetensors")
    save_file({**weights, "score.weight": torch.zeros(2, 32)}, tmp_path / "model.safetensors", {"format": "pt"})
    for refuse in (lambda: check_reward_model(tmp_path), lambda: scorer(tmp_path)):
        with pytest.raises(ModelError) as caught:
            refuse()
        assert "score.weight" in caught.value.found and "[2, 32]" in caught.value.found
        assert "[1, 32]" in caught.value.why


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda config: config.update(quantization_config={"quant_method": "awq"}), "has awq weights"),
        (lambda config: config.update(vocab_size=4), "has shape"),
        (lambda config: config.update(num_hidden_layers=1), "has model.layers.1.input_layernorm.weight, "),
        (lambda config: config.update(problem_type="regression"), None),
    ],
)
def test_other_folders_of_reward_models(folder: Path, tmp_path: Path, damage: Any, found: str | None) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    damage(config)
    (tmp_path / "config.json").write_text(json.dumps(config))
    if found is None:
        check_reward_model(tmp_path)
        return
    with pytest.raises(ModelError) as caught:
        check_reward_model(tmp_path)
    assert found in caught.value.found and caught.value.remedy


def test_tokens_without_an_embedding_are_refused(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    more = build_tokenizer()
    save(tmp_path, llama(more), more)
    check_reward_model(tmp_path)
    more.add_tokens(["<|judge|>"])
    more.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"has '<\|judge\|>'"):
        check_reward_model(tmp_path)


@pytest.mark.parametrize("pad", [-1, 10_000, None])
def test_a_padding_token_that_is_none_goes_one_at_a_time(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, pad: int | None
) -> None:
    """An id that has no embedding cannot stand on padding, and ends no text."""
    save(tmp_path, llama(tokenizer, pad=False), tokenizer)
    config = json.loads((tmp_path / "config.json").read_text())
    expected = alone(tmp_path, tokenizer, TEXTS)
    (tmp_path / "config.json").write_text(json.dumps({**config, "pad_token_id": pad}))
    if pad == 10_000:
        with pytest.raises(ModelError, match="cannot be loaded"):
            check_reward_model(tmp_path)
        return
    check_reward_model(tmp_path)
    assert [s.reward for s in scorer(tmp_path).score(*inputs(TEXTS))] == pytest.approx(expected, abs=1e-4)


def roberta(folder: Path, positions: int, pad: int | None = 1) -> Path:
    plain = build_tokenizer()
    plain.chat_template = None
    torch.manual_seed(0)
    config = RobertaConfig(
        **SHAPE, vocab_size=len(plain), num_labels=1, max_position_embeddings=positions, initializer_range=0.3,
        pad_token_id=1,
    )  # fmt: skip
    save(folder, RobertaForSequenceClassification(config), plain)
    saved = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**saved, "pad_token_id": pad}))
    return folder


def test_positions_that_begin_after_the_paddings(tmp_path: Path) -> None:
    """RoBERTa's 34 rows hold 34 - 1 - 1 = 32 tokens: row 1 is the padding's and row 0 nobody's."""
    check_reward_model(roberta(tmp_path, 34))
    one = scorer(tmp_path)
    scores = one.score(*inputs(["word " * 100, "plum", "lemon and plum " * 20]))
    assert [s.status for s in scores] == ["ok"] * 3
    assert [s.aspects for s in scores] == [{"truncated": 1.0}, {}, {"truncated": 1.0}]
    assert one._limit == 32
    assert scorer(tmp_path, max_tokens=512)._limit == 32
    assert scorer(tmp_path, max_tokens=8)._limit == 8


@pytest.mark.parametrize("pad", [-1, None])
def test_positions_that_begin_nowhere_are_refused(tmp_path: Path, pad: int | None) -> None:
    with pytest.raises(ModelError) as caught:
        check_reward_model(roberta(tmp_path, 34, pad))
    assert f"pad_token_id {pad}" in caught.value.found and "positions" in caught.value.why
    assert "pad_token_id" in caught.value.remedy


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "no_such_model"}))
    with pytest.raises(ModelError, match="cannot be loaded"):
        check_reward_model(tmp_path)


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 200))
def test_batches_hold_every_place_once_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = plan_batches(lengths, budget)
    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[place] for place in batch)
        assert len(batch) == 1 or longest * len(batch) <= budget


def test_batches_by_hand() -> None:
    """Sorted 9 5 4 1 with a budget of 10: 9 alone; 5 and 4 take 2 x 5; 1 alone would fit 3 x 5 = 15 no more."""
    assert plan_batches([4, 1, 9, 5], 10) == [[2], [3, 0], [1]]
    assert plan_batches([], 10) == []
    assert plan_batches([20, 20], 10) == [[0], [1]]


REFUSING = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHAT_TEMPLATE


def test_a_conversation_that_the_template_refuses_is_an_error_and_the_others_are_scored(tmp_path: Path) -> None:
    tokenizer = build_tokenizer()
    tokenizer.chat_template = REFUSING
    save(tmp_path, llama(tokenizer), tokenizer)
    check_reward_model(tmp_path)
    (bad,), samples = inputs(["plum"])
    good = Prompt("p", bad.messages[1:], [1])
    scores = scorer(tmp_path).score([bad, good, bad], samples * 3)
    assert [score.status for score in scores] == ["error", "ok", "error"]
    assert scores[0].reward is None and "no system role" in (scores[0].reason or "")
    assert scores[1].reward == scorer(tmp_path).score([good], samples)[0].reward


def test_a_template_that_leaves_out_the_answer_is_refused_before_weights_are_loaded(tmp_path: Path) -> None:
    """Every answer would get the same reward."""
    tokenizer = build_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}<|user|>{% if m['role'] == 'user' %}{{ m['content'] }}{% endif %}"
    tokenizer.chat_template += "{% endfor %}"
    save(tmp_path, llama(tokenizer), tokenizer)
    weights = tmp_path / "model.safetensors"
    kept = weights.rename(tmp_path / "kept")
    with pytest.raises(ModelError, match="content of the assistant message does not come out"):
        check_reward_model(tmp_path)
    kept.rename(weights)
    check_reward_model(tmp_path, "none")


def test_the_day_counts_where_the_template_tells_it(folder: Path, tmp_path: Path) -> None:
    tokenizer = build_tokenizer()
    tokenizer.chat_template = "{{ strftime_now('%d %b %Y') }}" + CHAT_TEMPLATE
    save(tmp_path, llama(tokenizer), tokenizer)
    days = [datetime.date(2026, 3, day) for day in (9, 10)]
    section = RewardModelScoring(type="reward_model", model="m")
    one, other = (RewardModelScorer(section, tmp_path, "sha", date=day) for day in days)
    (ids,) = one.tokens(*inputs(["plum"]))
    assert tokenizer.decode(ids).startswith("09 Mar 2026") and one.version != other.version
    still, same = (RewardModelScorer(section, folder, "sha", date=day) for day in days)
    assert still.version == same.version
