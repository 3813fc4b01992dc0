"""Configs to plan, and the sizes of a model."""

from __future__ import annotations

from typing import Any

from rayalign.config.run import RunConfig
from rayalign.learning.shape import ModelShape

SHAPE = ModelShape(
    "LlamaForCausalLM", total=1, linear=1, quantised=1, head=1, lora=1, lora_rank=1, lora_inputs=1, lora_modules=1,
    layers=4, hidden=512, heads=8, kv_heads=4, head_dim=64, feed_forward=1, gated=True, vocabulary=1, window=None,
)  # fmt: skip
"""A token's keys and values: 4 layers x 2 x 4 heads x 64 = 2,048 numbers, 8 KiB in float32; a block of 128 is 1 MiB."""


def config_with(**changes: Any) -> RunConfig:
    """`changes`: section__key=value."""
    data: dict[str, Any] = {
        "model": {"base": "x", "dtype": "bfloat16"},
        "prompts": {"source": "demo"},
        "sampling": {"max_tokens": 512},
        "scoring": [{"type": "rule", "function": "demo"}],
        "objective": {"type": "nca"},
        "training": {"gradient_checkpointing": True},
        "cluster": {"generators": {"gpus": 1}, "learner": {"gpus": 1}},
    }
    for key, value in changes.items():
        section, _, name = key.partition("__")
        data.setdefault(section, {})[name] = value
    return RunConfig.model_validate(data)


def on_cpu(**changes: Any) -> RunConfig:
    """Prompts of 1,024 and answers of 512 tokens, in float32."""
    pools = {"cluster__generators": {}, "cluster__learner": {}, "model__dtype": "float32"}
    return config_with(**{**pools, "prompts__max_tokens": 1024, **changes})
