"""What `benchmarks/learner.py` measures: models, and groups of responses with random tokens."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rayalign.records import TrainingGroup

SHAPES: dict[str, dict[str, Any]] = {
    "cpu": {"hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 11, "num_attention_heads": 8},
    "cuda": {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 20, "num_attention_heads": 16},
}
CASES: dict[str, dict[str, Any]] = {
    "short": {"prompt": (128, 256), "vocab": 32_000},
    "long": {"prompt": (512, 1024), "vocab": 32_000},
    "small_vocab": {"prompt": (128, 256), "vocab": 512},
}
"""Tokens of a prompt, least and most, and of the vocabulary."""
RESPONSE = (32, 192)
RANK = 16
"""Of LoRA, on every linear layer but the head."""


def make_model(case: str, device: str, dtype: str) -> Any:
    """A random Llama with LoRA on it; beside a bfloat16 base LoRA is float32, as the project trains it."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    from rayalign.learning.attention import register

    register()
    torch.manual_seed(0)
    config = LlamaConfig(**SHAPES[device], vocab_size=CASES[case]["vocab"], max_position_embeddings=4096)
    model: Any = LlamaForCausalLM(config)
    model.to(device=device, dtype=getattr(torch, dtype))
    return get_peft_model(model, LoraConfig(r=RANK, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"))


def make_groups(case: str, k: int, count: int) -> list[TrainingGroup]:
    """So many prompts with K responses each, the same ones at every call."""
    from rayalign.records import TrainingGroup

    rng, spec = random.Random(0), CASES[case]

    def tokens(low: int, high: int) -> list[int]:
        return [rng.randrange(3, spec["vocab"]) for _ in range(rng.randint(low, high))]

    groups = []
    for i in range(count):
        responses = [tokens(*RESPONSE) for _ in range(k)]
        rewards: list[float | None] = [rng.random() for _ in responses]
        indices = list(range(k))
        groups.append(
            TrainingGroup(str(i), tokens(*spec["prompt"]), indices, responses, [[] for _ in indices], rewards)
        )
    return groups


def response_tokens(groups: list[TrainingGroup]) -> int:
    return sum(len(response) for group in groups for response in group.response_token_ids)
