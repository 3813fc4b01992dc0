"""Encoders and the similarity backend on real tiny models: cosines as of one text at a time, and what is refused."""

from __future__ import annotations

import functools
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaModel,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from rayalign.config.rewards import SimilarityScoring
from rayalign.demo.encoder import _tokenizer
from rayalign.errors import DataError, ModelError
from rayalign.records import Prompt, Sample, Score
from rayalign.rendering.template import UNDATED
from rayalign.scoring.models.encoder import Encoder, check_encoder
from rayalign.scoring.models.similarity import SimilarityScorer
from tests.fakes import make_config

torch.set_num_threads(1)

SHAPE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
TEXTS = ["apple", "lemon, plum. done", "a longer answer with many, many words in it", "cat and dog!", "x" * 40]


def save(folder: Path, model: Any, **files: Any) -> Path:
    model.save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    for name, content in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(exist_ok=True)
        path.with_suffix(".json").write_text(json.dumps(content))
    return folder


def bert(kind: type = BertModel, **settings: Any) -> Any:
    torch.manual_seed(0)
    return kind(
        BertConfig(
            **SHAPE, vocab_size=len(_tokenizer()), max_position_embeddings=64, initializer_range=0.3, pad_token_id=0,
            **settings,
        )
    )  # fmt: skip


def llama(kind: type) -> Any:
    torch.manual_seed(0)
    return kind(LlamaConfig(**SHAPE, vocab_size=len(_tokenizer()), num_key_value_heads=2, initializer_range=0.3))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("encoder"), bert())


@functools.cache
def load_model(folder: Path) -> BertModel:
    """As Hugging Face loads it; read only."""
    return BertModel.from_pretrained(folder).eval()


def alone(folder: Path, text: str, pooling: str) -> np.ndarray:
    """A text in a forward pass of its own, pooled and normalised here."""
    model = load_model(folder)
    with torch.inference_mode():
        hidden_TH = model(torch.tensor([_tokenizer()(text)["input_ids"]])).last_hidden_state[0]
    vector = (hidden_TH[0] if pooling == "cls" else hidden_TH.mean(0)).numpy()
    return vector / np.linalg.norm(vector)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("budget", [1, 60, 8192])
def test_embeddings_are_those_of_each_text_alone(folder: Path, pooling: Any, budget: int) -> None:
    vectors_ND = Encoder(folder, pooling, tokens_per_batch=budget).embed(TEXTS)
    assert (vectors_ND.shape, vectors_ND.dtype) == ((len(TEXTS), 32), np.float32)
    assert np.linalg.norm(vectors_ND, axis=1) == pytest.approx(np.ones(len(TEXTS)), abs=1e-6)
    assert vectors_ND == pytest.approx(np.stack([alone(folder, text, pooling) for text in TEXTS]), abs=1e-5)


def test_no_text_has_no_row(folder: Path) -> None:
    assert Encoder(folder).embed([]).shape == (0, 32)


def test_a_text_without_an_embedding_is_named(folder: Path) -> None:
    with pytest.raises(DataError, match="text 1 has no embedding"):
        Encoder(folder).embed(["apple", " \n"])


def scorer(folder: Path, **settings: Any) -> SimilarityScorer:
    return SimilarityScorer(SimilarityScoring(type="similarity", model=str(folder), **settings), folder, "sha")


def prompt(target: str | None, name: str = "p") -> Prompt:
    return Prompt(name, [{"role": "user", "content": "Name two fruits."}], [1], target=target)


def score(one: SimilarityScorer, target: str | None, *texts: str) -> list[Score]:
    samples = [Sample("p", i, text, [5], [-1.0], "stop", 0, 0) for i, text in enumerate(texts)]
    return one.score([prompt(target)] * len(texts), samples)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_rewards_are_cosines_to_the_target(folder: Path, pooling: Any) -> None:
    scores = score(scorer(folder, pooling=pooling), "lemon, plum. done", *TEXTS, "apple")
    target = alone(folder, "lemon, plum. done", pooling)
    expected = [float(alone(folder, text, pooling) @ target) for text in [*TEXTS, "apple"]]
    assert [s.status for s in scores] == ["ok"] * 6
    assert [s.reward for s in scores] == pytest.approx(expected, abs=1e-5)
    assert scores[1].reward == pytest.approx(1.0, abs=1e-6)
    assert scores[0].reward == scores[5].reward
    assert all(s.aspects == {} and abs(s.reward or 9) <= 1 for s in scores)


def test_each_answer_is_compared_with_its_own_prompts_target(folder: Path) -> None:
    prompts = [prompt("apple", "a"), prompt(None, "none"), prompt("cat and dog!", "b")]
    samples = [Sample(p.id, 0, text, [5], [-1.0], "stop", 0, 0) for p, text in zip(prompts, TEXTS, strict=False)]
    samples[2] = Sample("b", 0, "cat and dog!", [5], [-1.0], "stop", 0, 0)
    scores = scorer(folder).score(prompts, samples)
    assert [s.status for s in scores] == ["ok", "abstain", "ok"]
    assert [scores[0].reward, scores[2].reward] == pytest.approx([1.0, 1.0], abs=1e-6)
    assert (scores[1].reward, scores[1].reason) == (None, "the prompt has no target")


def test_a_target_is_embedded_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, seen = scorer(folder), []
    forward = one._encoder.forward
    monkeypatch.setattr(one._encoder, "forward", lambda rows: seen.append(len(rows)) or forward(rows))
    first = score(one, "plum", "apple", "lemon", "apple")
    second = score(one, "plum", "apple")
    assert seen == [3, 1]
    assert [first[0].reward, first[2].reward] == pytest.approx([second[0].reward] * 2, abs=1e-6)


def test_known_targets_do_not_grow_without_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rayalign.scoring.models.similarity.KNOWN_TARGETS", 2)
    one = scorer(folder)
    rewards = [score(one, target, target)[0].reward for target in ("apple", "plum", "lemon", "apple")]
    assert rewards == pytest.approx([1.0] * 4, abs=1e-6)
    assert list(one._targets) == ["lemon", "apple"]


@pytest.mark.parametrize(
    ("target", "text", "which"), [("plum", "", "response"), ("plum", " \n", "response"), (" ", "a", "target")]
)
def test_an_empty_text_is_an_error(folder: Path, target: str, text: str, which: str) -> None:
    bad, good = score(scorer(folder), target, text, "lemon")
    assert (bad.status, bad.reward, bad.reason) == ("error", None, f"the {which} has no embedding: it is empty")
    assert good.status == ("ok" if which == "response" else "error")


def test_an_embedding_that_is_not_finite_is_an_error(tmp_path: Path) -> None:
    """The token of one answer has an infinite embedding: its own cosine is lost, the others' are not."""
    model = bert()
    (token,) = _tokenizer()("plum", add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        model.embeddings.word_embeddings.weight[token] = math.inf
    scores = score(scorer(save(tmp_path, model)), "lemon", "plum", "apple")
    assert [s.status for s in scores] == ["error", "ok"]
    assert scores[0].reason == "the response has no embedding: the model's embedding of it is not finite"


def test_truncation_is_the_same_for_target_and_answer_and_counted(folder: Path) -> None:
    long = ", ".join(["apple"] * 60)
    same, other, short = score(scorer(folder, max_tokens=8), long, long, ", ".join(["apple"] * 40), "apple")
    assert same.reward == pytest.approx(1.0, abs=1e-6)
    assert other.reward == pytest.approx(1.0, abs=1e-6)
    assert same.aspects == other.aspects == {"truncated": 1.0, "target_truncated": 1.0}
    assert short.aspects == {"target_truncated": 1.0}
    assert (short.reward or 1.0) < 0.999


def test_the_models_context_is_the_limit(folder: Path) -> None:
    (cut,) = score(scorer(folder, max_tokens=512), "apple", ", ".join(["apple"] * 100))
    assert (cut.status, cut.aspects) == ("ok", {"truncated": 1.0})


def test_the_version_hangs_on_what_decides_the_cosine(folder: Path) -> None:
    changes: list[dict[str, Any]] = [{}, {"pooling": "mean"}, {"max_tokens": 8}, {"dtype": "bfloat16"}]
    assert len({scorer(folder, **change).version for change in changes}) == 4
    assert scorer(folder, tokens_per_batch=1).version == scorer(folder).version


def test_bfloat16_is_near_float32(folder: Path) -> None:
    full, half = (score(scorer(folder, dtype=dtype), "plum", *TEXTS) for dtype in ("float32", "bfloat16"))
    assert [s.reward for s in half] == pytest.approx([s.reward for s in full], abs=0.05)
    assert [s.reward for s in half] != [s.reward for s in full]


@pytest.mark.parametrize(
    ("model", "found"),
    [
        (lambda: bert(BertForSequenceClassification), "is a BertForSequenceClassification"),
        (lambda: llama(LlamaForCausalLM), "is a LlamaForCausalLM"),
    ],
)
def test_what_is_no_encoder_is_refused(tmp_path: Path, model: Any, found: str) -> None:
    with pytest.raises(ModelError) as caught:
        check_encoder(save(tmp_path, model()), "cls")
    assert found in caught.value.found and caught.value.remedy


def test_what_sentence_transformers_would_do_otherwise_is_refused(tmp_path: Path) -> None:
    mean = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
    modules = [{"type": f"sentence_transformers.models.{name}"} for name in ("Transformer", "Pooling", "Normalize")]
    save(tmp_path, bert(), **{"1_Pooling__config": mean, "modules": modules})
    check_encoder(tmp_path, "mean")
    with pytest.raises(ModelError, match="trained with pooling_mode_mean_tokens"):
        check_encoder(tmp_path, "cls")
    (tmp_path / "modules.json").write_text(json.dumps([*modules, {"type": "sentence_transformers.models.Dense"}]))
    with pytest.raises(ModelError, match="module Dense"):
        check_encoder(tmp_path, "mean")


def test_a_first_token_that_sees_nothing_is_refused(tmp_path: Path) -> None:
    save(tmp_path, llama(LlamaModel))
    with pytest.raises(ModelError, match="gives different texts one embedding"):
        Encoder(tmp_path, "cls")
    assert Encoder(tmp_path, "mean").embed(["apple", "plum"]).shape == (2, 32)


def test_weights_that_are_missing_are_refused_but_not_the_pooler(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    weights = load_file(tmp_path / "model.safetensors")
    kept = {name: value for name, value in weights.items() if not name.startswith("pooler.")}
    assert len(kept) < len(weights)
    save_file(kept, tmp_path / "model.safetensors", {"format": "pt"})
    Encoder(tmp_path)
    del kept["encoder.layer.1.output.dense.weight"]
    save_file(kept, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks encoder\.layer\.1\.output\.dense\.weight"):
        Encoder(tmp_path)


def test_an_encoder_is_judged_by_its_headers_too(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    check_encoder(tmp_path, "mean")
    weights = load_file(tmp_path / "model.safetensors")
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError) as caught:
        check_encoder(tmp_path, "mean")
    assert "lacks encoder.layer.1.output.dense.weight" in caught.value.found and "random" in caught.value.why
    save_file({f"model.{name}": value for name, value in weights.items()}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="lacks"):
        check_encoder(tmp_path, "mean")
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="pickled"):
        check_encoder(tmp_path, "mean")


def test_two_poolings_at_once_are_refused(tmp_path: Path) -> None:
    """sentence-transformers puts them side by side: another embedding than either."""
    both = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}
    with pytest.raises(ModelError, match="pooling_mode_cls_token and pooling_mode_mean_tokens"):
        check_encoder(save(tmp_path, bert(), **{"1_Pooling__config": both}), "cls")


def test_positions_of_an_encoder_that_begin_after_the_paddings(tmp_path: Path) -> None:
    """XLM-RoBERTa's 34 rows hold 32 tokens; its tokenizer may say more."""
    config = XLMRobertaConfig(**SHAPE, vocab_size=len(_tokenizer()), max_position_embeddings=34, pad_token_id=1)
    torch.manual_seed(0)
    check_encoder(save(tmp_path, XLMRobertaModel(config)), "mean")
    encoder = Encoder(tmp_path, "mean", max_tokens=512)
    assert encoder.limit == 32
    embedded = encoder.encode([", ".join(["apple"] * 100), "plum"])
    assert embedded.truncated == [True, False] and bool(np.isfinite(embedded.vectors_ND).all())


def test_a_scorer_actor_hosts_it_from_a_folder_of_the_config(folder: Path, tmp_path: Path) -> None:
    from rayalign.actors.scorer import ScorerActor
    from rayalign.launch.models import read_scorers, scorer_model

    config = make_config(scoring=[{"type": "similarity", "model": str(folder), "pooling": "mean"}])
    sources = read_scorers(config.scoring, config, tmp_path, UNDATED)
    actor = ScorerActor("scorer-0", config, sources, [None], str(tmp_path / "no_such_folder"))
    (row,) = actor.score([prompt("apple")], [Sample("p", 0, "apple", [5], [-1.0], "stop", 0, 0)])
    actor.close()
    assert row.reward == pytest.approx(1.0, abs=1e-6)
    assert sources[0].version == sources[0].model_sha256
    (folder / "tokenizer_config.json").write_text((folder / "tokenizer_config.json").read_text() + "\n")
    assert scorer_model(config.scoring[0], config)[1] != sources[0].model_sha256
