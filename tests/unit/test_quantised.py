"""NF4 and int8 base weights (bitsandbytes): log-probabilities and gradients are those of the weights they stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import torch

from rayalign.config.model import LoraSection, ModelSection
from rayalign.learning.model import Policy, build_policy
from rayalign.learning.packing import collate_padded

torch.set_num_threads(1)
BATCH = collate_padded([([1, 2, 3], [4, 5]), ([9], [8, 7, 6, 5, 4]), ([10, 11], [12])])
LORA = LoraSection(r=8, alpha=16)


def policy_of(folder: Path, kind: Literal["none", "int8", "nf4"]) -> Policy:
    policy = build_policy(folder, ModelSection(base=str(folder), quantization=kind, lora=LORA))
    policy.reset_adapter(0)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(1)
        for name, parameter in sorted(policy.named_parameters()):
            if "lora_B" in name:
                parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
    return policy


def gradients(policy: Policy) -> dict[str, torch.Tensor]:
    policy.zero_grad()
    policy(BATCH).sum().backward()
    return {name: p.grad for name, p in policy.named_parameters() if p.grad is not None}


def test_nf4_learns_as_the_weights_it_stands_for(llama_folder: Path) -> None:
    """Also after log-probabilities were asked for: on a CPU with bfloat16 instructions bitsandbytes then repacks its
    weights for inference, and gradients would no longer pass through them."""
    from bitsandbytes.functional import dequantize_4bit

    quantised, plain = policy_of(llama_folder, "nf4"), policy_of(llama_folder, "none")
    modules = dict(plain.named_modules())
    layers = [(n, m) for n, m in quantised.named_modules() if type(m).__module__.startswith("bitsandbytes")]
    assert len(layers) == 14
    quantised.eval()
    with torch.no_grad():
        scored = quantised(BATCH)
        for name, layer in layers:
            modules[name].weight.copy_(dequantize_4bit(layer.weight.data, layer.weight.quant_state))
    quantised.train()
    torch.testing.assert_close(scored, plain(BATCH).detach(), rtol=1e-4, atol=1e-4)
    expected, ours = gradients(plain), gradients(quantised)
    assert ours.keys() == expected.keys() and len(ours) == 28
    for name in ours:
        torch.testing.assert_close(ours[name], expected[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_scoring_and_learning_round_alike(llama_folder: Path, kind: Literal["int8", "nf4"]) -> None:
    """Else the log-ratio to the reference would not be zero before the first step."""
    policy = policy_of(llama_folder, kind)
    policy.eval()
    with torch.no_grad():
        scored = policy(BATCH)
    policy.train()
    assert torch.equal(scored, policy(BATCH).detach())
