"""Gradient checkpointing of all layers, or of so many: which are remade, and that no gradient changes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from rayalign.config.model import LoraSection, ModelSection
from rayalign.errors import ModelError
from rayalign.learning.folder_checks import check_policy
from rayalign.learning.model import Policy, policy_on
from rayalign.learning.packing import collate_packed
from tests.tiny_run import make_base

torch.set_num_threads(1)
LAYERS = 5
BATCH = collate_packed([([1, 2, 3], [4, 5]), ([1, 2, 3], [6, 7, 8]), ([9], [8, 7])])


def policy_with(checkpointing: bool | int) -> Policy:
    from rayalign.learning.attention import register

    register()
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}
    base = LlamaForCausalLM(LlamaConfig(**shape, num_hidden_layers=LAYERS, vocab_size=64, initializer_range=0.3))
    section = ModelSection(base="x", lora=LoraSection(r=8, alpha=16))
    policy = policy_on(base, Path(), section, checkpointing=checkpointing)
    with torch.no_grad():
        for number, parameter in enumerate(policy.trainable()):
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)))
    return policy


def remade_and_gradients(checkpointing: bool | int) -> tuple[list[int], list[torch.Tensor]]:
    """(how often the inside of each layer runs for a forward and a backward pass less once, gradients)."""
    policy, runs = policy_with(checkpointing), [-1] * LAYERS
    for index, layer in enumerate(policy._weights.base.model.layers):
        layer.mlp.register_forward_pre_hook(lambda *_, index=index: runs.__setitem__(index, runs[index] + 1))
    policy(BATCH).sum().backward()
    return runs, [p.grad for p in policy.trainable() if p.grad is not None]


@pytest.mark.parametrize(
    ("checkpointing", "expected"),
    [(False, [0, 0, 0, 0, 0]), (True, [1, 1, 1, 1, 1]), (1, [1, 0, 0, 0, 0]), (2, [1, 0, 1, 0, 0]),
     (4, [1, 1, 1, 1, 0]), (5, [1, 1, 1, 1, 1])],
)  # fmt: skip
def test_as_many_layers_are_remade_and_gradients_stay(checkpointing: bool | int, expected: list[int]) -> None:
    _, plain = remade_and_gradients(False)
    runs, ours = remade_and_gradients(checkpointing)
    assert runs == expected
    assert len(ours) == len(plain) == 2 * 7 * LAYERS
    assert all(torch.equal(one, other) for one, other in zip(ours, plain, strict=True))


def test_more_layers_than_there_are_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"training\.gradient_checkpointing 6") as caught:
        policy_with(LAYERS + 1)
    assert caught.value.exit_code == 2 and "true, or to 5 at most" in str(caught.value.remedy)
    make_base(tmp_path)
    with pytest.raises(ModelError, match="the model has 2 layers"):
        check_policy(tmp_path, ModelSection(base="x"), merges=True, gpu=False, remade=3)
