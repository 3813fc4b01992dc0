"""Small GGUF files, written by llama.cpp's own package out of models of transformers, as its converters write them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from tokenizers import pre_tokenizers

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = ["Ġ t", "h e", "Ġt he", "Ġ Ġ", "i n"]
ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
TOKENS = [*SPECIAL, *ALPHABET, *(merge.replace(" ", "") for merge in MERGES)]
SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": len(TOKENS),
    "max_position_embeddings": 256,
}


def tiny_model(kind: str = "llama", seed: int = 0, **settings: Any) -> Any:
    """A causal language model of a few thousand weights, far from the usual tiny initial ones."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(seed)
    special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = AutoConfig.for_model(kind, **{**SHAPE, "initializer_range": 0.1, **special, **settings})
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name or name.endswith("bias"):
                weight.add_(torch.randn_like(weight) * 0.1)
    return model


def write_gguf(
    path: Path,
    model: Any,
    architecture: str = "llama",
    stored: str = "F32",
    metadata: Mapping[str, Any] | None = None,
    tensors: Callable[[dict[str, np.ndarray]], None] = lambda _: None,
) -> Path:
    """Write a model with a byte-level tokenizer and a ChatML template.

    Args:
        stored: type of the matrices; vectors are always F32.
        metadata: pairs that are added or changed; None takes one away.
        tensors: changes them, by the file's names, before they are written.
    """
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in {
        **model_metadata(model.config, architecture),
        **tokenizer_metadata(),
        **(metadata or {}),
    }.items():
        if value is not None:
            _add(writer, key, value)
    weights = _tensors(model, architecture)
    tensors(weights)
    for name, weight in weights.items():
        kind = gguf.GGMLQuantizationType[stored if weight.ndim > 1 else "F32"]
        if kind == gguf.GGMLQuantizationType.F32:
            writer.add_tensor(name, weight)
        else:
            writer.add_tensor(name, gguf.quantize(weight, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def model_metadata(config: Any, architecture: str) -> dict[str, Any]:
    rope = config.rope_parameters.get("full_attention", config.rope_parameters)
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    values = {
        "context_length": config.max_position_embeddings,
        "block_count": config.num_hidden_layers,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        "attention.key_length": head,
        "attention.value_length": head,
        "attention.sliding_window": getattr(config, "sliding_window", None),
        "rope.freq_base": float(rope["rope_theta"]),
        "rope.dimension_count": int(head * rope.get("partial_rotary_factor", 1.0)),
    }
    return {f"{architecture}.{key}": value for key, value in values.items()}


def tokenizer_metadata() -> dict[str, Any]:
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": TOKENS,
        "tokenizer.ggml.token_type": [3] * len(SPECIAL) + [1] * (len(TOKENS) - len(SPECIAL)),
        "tokenizer.ggml.merges": MERGES,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": CHATML,
    }


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def _tensors(model: Any, architecture: str) -> dict[str, np.ndarray]:
    arch = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(arch, model.config.num_hidden_layers)
    found = {}
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        written = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert written is not None, name
        found[written] = _as_written(written, weight.float().numpy(), model.config, architecture)
    return found


def _as_written(name: str, weight: np.ndarray, config: Any, architecture: str) -> np.ndarray:
    """What llama.cpp's converters do to a tensor."""
    if architecture == "llama" and (which := re.search(r"attn_([qk])\.weight", name)):
        heads = config.num_attention_heads if which[1] == "q" else config.num_key_value_heads
        pairs = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
        return pairs.swapaxes(1, 2).reshape(weight.shape)
    if architecture.startswith("gemma") and name.endswith("norm.weight"):
        return weight + 1
    return weight
