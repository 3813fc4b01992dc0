"""A config to plan."""

from __future__ import annotations

from typing import Any

from rayalign.config.run import RunConfig


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
