"""Sizes of a model, counted on its `config.json` alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from rayalign.config.model import LoraSection, ModelSection
from rayalign.errors import ModelError
from rayalign.learning.folders import resolve_config
from rayalign.learning.shape import ModelShape

LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 160,
    "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100,
    "tie_word_embeddings": False,
}  # fmt: skip


def shape_of(folder: Path, config: dict[str, Any], **section: Any) -> ModelShape:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return ModelShape.of(folder, ModelSection(base=str(folder), **section))


def test_parameters_are_those_of_the_published_model(tmp_path: Path) -> None:
    """Llama-2-7B: 6,738,415,616 parameters; LoRA of rank 16 on its seven linear modules 16 (in + out) each."""
    published = LLAMA | {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
                         "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32000}  # fmt: skip
    shape = shape_of(tmp_path, published)
    assert shape.total == 6_738_415_616
    assert shape.lora == 32 * 16 * (4 * (4096 + 4096) + 3 * (4096 + 11008))
    assert shape.head == 32000 * 4096
    # 2 bytes each: the half mebibyte per token that is known of this model.
    assert shape.kv_elements * 2 == 2**19


def test_linear_parameters_leave_out_embedding_head_and_norms(tmp_path: Path) -> None:
    """A layer: q and o 64 x 64, k and v 64 x 32, three of 64 x 160."""
    untied = shape_of(tmp_path, LLAMA)
    assert untied.linear == 3 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 160)
    assert untied.total == untied.linear + 2 * 100 * 64 + (2 * 3 + 1) * 64
    tied = shape_of(tmp_path, LLAMA | {"tie_word_embeddings": True})
    assert (tied.total, tied.linear, tied.head) == (untied.total - 100 * 64, untied.linear, untied.head)
    assert (untied.lora_modules, untied.lora_inputs) == (7, 6 * 64 + 160)


def test_of_experts_the_active_ones_count(tmp_path: Path) -> None:
    """Two of eight experts of width 48: a token passes a quarter of their weights, all of attention and router."""
    mixtral = LLAMA | {"architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "num_local_experts": 8,
                       "num_experts_per_tok": 2, "intermediate_size": 48}  # fmt: skip
    shape = shape_of(tmp_path, mixtral, lora=LoraSection(targets=["q_proj", "v_proj"]))
    attention, router, experts = 2 * 64 * 64 + 2 * 64 * 32, 8 * 64, 8 * 3 * 64 * 48
    assert shape.linear == 3 * (attention + router + experts // 4)
    assert shape.total == 3 * (attention + router + experts) + 2 * 100 * 64 + (2 * 3 + 1) * 64
    assert (shape.feed_forward, shape.gated) == (2 * 48, True)
    assert shape.lora == 3 * 16 * ((64 + 64) + (64 + 32))


def test_a_model_without_gate_is_trained_whole(tmp_path: Path) -> None:
    gpt2 = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4,
            "vocab_size": 100, "n_positions": 32}  # fmt: skip
    shape = shape_of(tmp_path, gpt2, full=True)
    assert (shape.gated, shape.feed_forward, shape.lora, shape.lora_modules) == (False, 4 * 64, 0, 0)
    assert shape.linear == 2 * (64 * 192 + 64 * 64 + 2 * 64 * 256)


def test_an_adapter_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no_such_module"):
        shape_of(tmp_path, LLAMA, lora=LoraSection(targets=["no_such_module"]))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError):
        ModelShape.of(tmp_path / "empty", ModelSection(base="x"))


def test_of_a_hub_id_the_config_alone_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(repo: str, name: str) -> str:
        asked.append((repo, name))
        (tmp_path / name).write_text(json.dumps(LLAMA))
        return str(tmp_path / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert ModelShape.of(resolve_config("some/model"), ModelSection(base="some/model")).layers == 3
    assert asked == [("some/model", "config.json")]
    # A folder that holds nothing else is a model's too.
    assert resolve_config(str(tmp_path)) == tmp_path


def test_layers_with_a_sliding_window_are_counted(tmp_path: Path) -> None:
    mistral = {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": 4096}
    gemma = {"architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "head_dim": 16, "sliding_window": 512,
             "num_hidden_layers": 12}  # fmt: skip
    found = [shape_of(tmp_path / str(i), LLAMA | more) for i, more in enumerate((mistral, gemma, {}))]
    assert [(shape.window, shape.windowed) for shape in found] == [(4096, 3), (512, 10), (None, 0)]
