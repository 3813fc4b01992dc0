"""A GGUF header against the config that transformers makes of it: what it left out is added, or refused.

A config takes its class's default where transformers does not read a key, which is another model's value: a rotary
base, a sliding window, a factor for long contexts. Nothing fails then; the model only answers worse.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rayalign.errors import ModelError
from rayalign.learning.gguf_header import GgufHeader, GgufSource

if TYPE_CHECKING:
    from transformers import PretrainedConfig

ELSEWHERE = "name the model's folder in Hugging Face format, or its hub id, in place of the GGUF file"
ROPE_FACTORS = "rope_freqs.weight"
"""Tensor of Llama 3.1's and 3.2's factors for long contexts, which the config has as four numbers."""
_LLAMA3 = tuple((factor, 1.0, 4.0, 8192) for factor in (8.0, 32.0))
"""(factor, low, high, original context) of the models that have such factors."""
_SAME: dict[str, tuple[str, ...]] = {
    "context_length": ("max_position_embeddings",),
    "attention.head_count": ("num_attention_heads",),
    "attention.head_count_kv": ("num_key_value_heads",),
    "attention.key_length": ("head_dim", "global_head_dim"),
    "attention.layer_norm_rms_epsilon": ("rms_norm_eps", "norm_eps", "layer_norm_epsilon"),
    "attention.layer_norm_epsilon": ("layer_norm_eps", "layer_norm_epsilon", "norm_epsilon", "norm_eps"),
    "attention.sliding_window": ("sliding_window",),
    "attn_logit_softcapping": ("attn_logit_softcapping",),
    "final_logit_softcapping": ("final_logit_softcapping",),
    "expert_used_count": ("num_experts_per_tok",),
}
"""Key of the header -> attributes of configs, of which a class has one; none of them shows in a tensor's shape."""
_SEEN_IN_SHAPES = {
    "block_count",
    "embedding_length",
    "feed_forward_length",
    "expert_feed_forward_length",
    "expert_shared_feed_forward_length",
    "attention.value_length",
    "vocab_size",
    "expert_count",
    "full_attention_interval",
    "shortconv.l_cache",
    "ssm.conv_kernel",
    "ssm.group_count",
    "ssm.inner_size",
    "ssm.state_size",
    "ssm.time_step_rank",
}
_WITHOUT_EFFECT = {"rope.scaling.finetuned", "attention.causal", "tensor_data_layout", "use_parallel_residual"}
_ROPE = {"rope.freq_base", "rope.freq_base_swa", "rope.dimension_count", "rope.dimension_sections"}


def complete_config(config: PretrainedConfig, source: GgufSource) -> None:
    """Set what the header says and transformers did not read.

    Raises:
        ModelError: the header asks for something that the config has no place for.
    """
    header = source.header
    for name, attributes in _SAME.items():
        wanted = header.of_model(name)
        if wanted is None or isinstance(wanted, list):
            continue
        attribute = next((one for one in attributes if hasattr(config, one)), None)
        if attribute is not None:
            if not _equal(getattr(config, attribute), wanted):
                setattr(config, attribute, wanted)
        elif name not in ("attention.key_length", "context_length"):
            raise _refused(source, f"{name} = {wanted}", "the model's config has no such number")
    if hasattr(config, "sliding_window") and header.of_model("attention.sliding_window") is None:
        config.sliding_window = None
    if hasattr(config, "query_pre_attn_scalar"):
        config.query_pre_attn_scalar = _gemma_scale(config)
    _complete_rope(config, source)
    _set_tokens(config, header)


def unread_keys(header: GgufHeader) -> list[str]:
    """Keys of the architecture that nothing here knows: the model may compute what its config does not say."""
    known = _SAME.keys() | _SEEN_IN_SHAPES | _WITHOUT_EFFECT | _ROPE
    prefix = f"{header.architecture}."
    own = {name.removeprefix(prefix) for name in header.metadata if name.startswith(prefix)}
    return sorted(prefix + name for name in own - known if not name.startswith("rope.scaling."))


def _gemma_scale(config: PretrainedConfig) -> int:
    """What Gemma 2 and 3 divide attention's products by, squared: no header has it, and llama.cpp goes by the size."""
    of_27b = {"gemma2": 46, "gemma3_text": 62}
    if config.num_hidden_layers == of_27b.get(config.model_type):
        return config.hidden_size // config.num_attention_heads
    return config.head_dim


def _complete_rope(config: PretrainedConfig, source: GgufSource) -> None:
    header = source.header
    rope = getattr(config, "rope_parameters", None)
    kind, factor = header.of_model("rope.scaling.type"), header.of_model("rope.scaling.factor")
    if kind not in (None, "none") and factor not in (None, 0.0, 1.0):
        raise _refused(source, f"rope.scaling.type = {kind}", "transformers does not read it from a GGUF file")
    if rope is None:
        return
    whole = rope.get("full_attention", rope)
    if (base := header.of_model("rope.freq_base")) is not None:
        whole["rope_theta"] = base
    if "sliding_attention" in rope and (base := header.of_model("rope.freq_base_swa")) is not None:
        rope["sliding_attention"]["rope_theta"] = base
    _complete_width(config, whole, source)
    if (factors := header.floats(source.file, ROPE_FACTORS)) is not None:
        whole |= _llama3_rope(factors, whole["rope_theta"], source)


def _complete_width(config: PretrainedConfig, rope: dict[str, Any], source: GgufSource) -> None:
    """How much of a head turns with its position."""
    width = source.header.of_model("rope.dimension_count")
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if not isinstance(width, int) or width == head * rope.get("partial_rotary_factor", 1.0):
        return
    if "partial_rotary_factor" not in rope:
        raise _refused(source, f"rope.dimension_count = {width} of {head}", "the model turns whole heads")
    rope["partial_rotary_factor"] = width / head


def _llama3_rope(factors: Sequence[float], theta: float, source: GgufSource) -> dict[str, Any]:
    """The four numbers that give these factors.

    Raises:
        ModelError: none of the known ones do.
    """
    for factor, low, high, context in _LLAMA3:
        expected = _llama3_factors(len(factors), theta, factor, low, high, context)
        if all(math.isclose(a, b, rel_tol=1e-3) for a, b in zip(factors, expected, strict=True)):
            return {
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low,
                "high_freq_factor": high,
                "original_max_position_embeddings": context,
            }
    raise _refused(source, f"tensor {ROPE_FACTORS}", "its factors for long contexts are none that are known here")


def _llama3_factors(count: int, theta: float, factor: float, low: float, high: float, context: int) -> list[float]:
    """What divides each frequency: 1 for short waves, `factor` for long ones, and between them smoothly."""
    factors = []
    for index in range(count):
        wave = 2 * math.pi * theta ** (index / count)
        smooth = (context / wave - low) / (high - low)
        factors.append(1 / ((1 - (s := min(1.0, max(0.0, smooth)))) / factor + s))
    return factors


def _set_tokens(config: PretrainedConfig, header: GgufHeader) -> None:
    for name, token in (("bos", "bos"), ("eos", "eos"), ("pad", "padding")):
        setattr(config, f"{name}_token_id", header.metadata.get(f"tokenizer.ggml.{token}_token_id"))


def _equal(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, float) and isinstance(found, int | float):
        return struct.pack("<f", found) == struct.pack("<f", wanted)
    return found == wanted


def _refused(source: GgufSource, found: str, why: str) -> ModelError:
    return source.refused(found, f"{why}, and without it the model would answer worse", ELSEWHERE)
