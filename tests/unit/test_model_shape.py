"""Sizes of a model, counted on its `config.json` alone."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from rayalign.config.model import LoraSection, ModelSection
from rayalign.errors import ModelError
from rayalign.learning.folders import resolve_config
from rayalign.learning.shape import ModelShape
from rayalign.planning.load import Group, Lengths, attention_flops

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
    assert shape.cached(1, gpu=True) * 2 == 2**19


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


DEEPSEEK_V2_LITE = {
    "architectures": ["DeepseekV2ForCausalLM"], "model_type": "deepseek_v2", "hidden_size": 2048,
    "intermediate_size": 10944, "moe_intermediate_size": 1408, "num_hidden_layers": 27, "num_attention_heads": 16,
    "num_key_value_heads": 16, "kv_lora_rank": 512, "q_lora_rank": None, "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64, "v_head_dim": 128, "n_routed_experts": 64, "num_experts_per_tok": 6, "n_shared_experts": 2,
    "first_k_dense_replace": 1, "vocab_size": 102400,
}  # fmt: skip
ATTENTION = LoraSection(targets=["o_proj"])


def test_compressed_keys_and_values_are_cached_once_for_all_heads(tmp_path: Path) -> None:
    """DeepSeek-V2-Lite: 512 and 64 numbers a layer; queries and keys are 192 wide, values 128; two shared experts."""
    shape = shape_of(tmp_path, DEEPSEEK_V2_LITE, lora=ATTENTION)
    assert shape.cached(10, gpu=True) == shape.cached(10, gpu=False) == 10 * 27 * (512 + 64)
    assert (shape.heads, shape.head_dim, shape.cached_parts) == (16, (192 + 128) // 2, 1)
    attention = 2048 * 16 * 192 + 2048 * (512 + 64) + 512 * 16 * (128 + 128) + 16 * 128 * 2048
    expert, router, dense = 3 * 2048 * 1408, 64 * 2048, 3 * 2048 * 10944
    assert shape.linear == 27 * attention + dense + 26 * ((6 + 2) * expert + router)
    # bitsandbytes leaves fused experts and the router's own module as they are.
    assert shape.quantised == 27 * attention + dense + 26 * 2 * expert
    assert shape.feed_forward == round((10944 + 26 * (6 + 2) * 1408) / 27)


def test_shared_experts_are_part_of_the_feed_forward_block(tmp_path: Path) -> None:
    """Of other names: four of 60 experts of 24 and a shared one of 80; one of 16 beside one of the same width, every
    second layer dense."""
    qwen = LLAMA | {"architectures": ["Qwen2MoeForCausalLM"], "model_type": "qwen2_moe", "num_experts": 60,
                    "num_experts_per_tok": 4, "moe_intermediate_size": 24, "shared_expert_intermediate_size": 80,
                    "decoder_sparse_step": 1}  # fmt: skip
    shape = shape_of(tmp_path / "qwen", qwen, lora=ATTENTION)
    attention, shared = 2 * 64 * 64 + 2 * 64 * 32, 3 * 64 * 80
    assert shape.feed_forward == 4 * 24 + 80
    assert shape.linear == 3 * (attention + 60 * 64 + 4 * 3 * 64 * 24 + shared + 64)
    assert shape.quantised == 3 * (attention + shared + 64)
    llama = LLAMA | {"architectures": ["Llama4ForCausalLM"], "model_type": "llama4_text", "num_local_experts": 16,
                     "num_experts_per_tok": 1, "intermediate_size": 48, "intermediate_size_mlp": 112, "head_dim": 16,
                     "interleave_moe_layer_step": 2, "num_hidden_layers": 4}  # fmt: skip
    shape = shape_of(tmp_path / "llama", llama, lora=ATTENTION)
    assert shape.feed_forward == (2 * (48 + 48) + 2 * 112) // 4
    assert shape.linear == 4 * attention + 2 * (16 * 64 + 2 * 3 * 64 * 48) + 2 * 3 * 64 * 112


FALCON = {"architectures": ["FalconForCausalLM"], "model_type": "falcon", "hidden_size": 64, "num_hidden_layers": 3,
          "num_attention_heads": 8, "vocab_size": 100}  # fmt: skip
BIGCODE = {"architectures": ["GPTBigCodeForCausalLM"], "model_type": "gpt_bigcode", "n_embd": 64, "n_layer": 3,
           "n_head": 8, "vocab_size": 100, "n_positions": 32}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "kv_heads"),
    [
        (FALCON | {"multi_query": True}, 1),
        (FALCON | {"multi_query": False}, 8),
        (FALCON | {"multi_query": True, "new_decoder_architecture": True, "num_kv_heads": 2}, 2),
        (BIGCODE | {"multi_query": True}, 1),
        (BIGCODE | {"multi_query": False}, 8),
    ],
)
def test_heads_that_share_keys_and_values(tmp_path: Path, config: dict[str, Any], kv_heads: int) -> None:
    shape = shape_of(tmp_path, config, full=True)
    assert shape.cached(1, gpu=True) == 3 * 2 * kv_heads * 8
    assert (shape.cached_parts, shape.feed_forward, shape.gated) == (kv_heads, 4 * 64, False)


def test_layers_with_a_state_have_no_cache_and_no_pairs(tmp_path: Path) -> None:
    """Of eight layers of this hybrid every fourth attends."""
    hybrid = LLAMA | {"architectures": ["Qwen3NextForCausalLM"], "model_type": "qwen3_next", "num_hidden_layers": 8,
                      "head_dim": 32, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
                      "shared_expert_intermediate_size": 16, "linear_num_key_heads": 2, "linear_num_value_heads": 2,
                      "linear_key_head_dim": 16, "linear_value_head_dim": 16}  # fmt: skip
    shape = shape_of(tmp_path, hybrid, lora=ATTENTION)
    assert shape.cached(100, gpu=True) == shape.cached(100, gpu=False) == 100 * 2 * (2 * 2 * 32)
    assert (shape.stateful, shape.windowed, shape.window) == (6, 6, 0)
    group = Group(Lengths(40, 25), 4)
    assert attention_flops(shape, group) == 4 * group.pairs() * 2 * 4 * 32


def test_a_layer_with_a_window_caches_no_more_on_a_gpu(tmp_path: Path) -> None:
    """Where vLLM drops what no one sees any more: not on CPU, and not of chunks."""
    gemma = LLAMA | {"architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "head_dim": 16,
                     "sliding_window": 512, "num_hidden_layers": 12}  # fmt: skip
    shape = shape_of(tmp_path / "gemma", gemma)
    each = 2 * 2 * 16
    assert shape.cached(300, gpu=True) == 12 * 300 * each
    assert shape.cached(2000, gpu=True) == (2 * 2000 + 10 * 512) * each
    assert shape.cached(2000, gpu=False) == 12 * 2000 * each
    chunks = dataclasses.replace(shape, chunked=True)
    assert chunks.cached(2000, gpu=True) == 12 * 2000 * each


MAMBA = {"architectures": ["MambaForCausalLM"], "model_type": "mamba", "hidden_size": 64, "num_hidden_layers": 2,
         "vocab_size": 100}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (MAMBA, "no num_attention_heads"),
        (LLAMA | {"hidden_size": -64}, "cannot be loaded"),
        (LLAMA | {"num_attention_heads": 0}, "cannot be loaded"),
        (LLAMA | {"num_attention_heads": "four"}, "cannot be loaded"),
        (LLAMA | {"hidden_act": "no such act"}, "cannot be loaded"),
        (LLAMA | {"num_hidden_layers": 0}, "num_hidden_layers 0"),
        ({"architectures": ["LlamaForCausalLM"], "model_type": "t5"}, "cannot be loaded"),
        ({"architectures": ["LlamaForCausalLM"], "model_type": "no-such-type"}, "cannot be loaded"),
    ],
)
def test_a_config_that_makes_no_transformer_is_refused(tmp_path: Path, config: dict[str, Any], told: str) -> None:
    with pytest.raises(ModelError) as caught:
        shape_of(tmp_path, config, full=True)
    assert told in caught.value.found and str(tmp_path) in caught.value.found
    assert caught.value.why and caught.value.remedy and caught.value.exit_code == 2
