"""LoRA layers of vLLM on CPU by our products, with tokens of several adapters and of none in one step."""

from __future__ import annotations

import pytest
import torch

pytestmark = pytest.mark.integration

SLOTS, RANK, INPUT, PARTS = 2, 8, 24, (16, 8, 8)
"""Adapters that an engine holds; the parts are those of a fused layer, such as queries, keys and values."""


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "adapters",
    [[7] * 5, [0] * 5, [0, 7, 7, 0, 7], [9, 9, 7, 7, 7], [7, 9, 0, 9, 7]],
    ids=["all", "none", "with none", "two", "two with none"],
)
def test_each_token_gets_its_own_adapter(adapters: list[int], dtype: torch.dtype) -> None:
    """7 and 9 are numbers of adapters, 0 is none."""
    from vllm.lora.layers import LoRAMapping

    from rayalign.actors.lora_on_cpu import LoraProducts

    random = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random).to(dtype)

    x_TI, y_TO = draw(len(adapters), INPUT), draw(len(adapters), sum(PARTS))
    lora_a = tuple(draw(SLOTS, 1, RANK, INPUT) for _ in PARTS)
    lora_b = tuple(draw(SLOTS, 1, part, RANK) for part in PARTS)
    held = [7, 9]
    wanted_TO = y_TO.float()
    for place, adapter in enumerate(adapters):
        if adapter:
            slot = held.index(adapter)
            change = [b[slot, 0].float() @ a[slot, 0].float() for a, b in zip(lora_a, lora_b, strict=True)]
            wanted_TO[place] += 0.5 * torch.cat(change) @ x_TI[place].float()

    wrapper = LoraProducts(64, 16, "cpu")
    wrapper.update_metadata(LoRAMapping(tuple(adapters), tuple(adapters), is_prefill=True), held, SLOTS, 100)
    wrapper.add_lora_linear(y_TO, x_TI, lora_a, lora_b, 0.5, PARTS)
    near = {torch.float32: 1e-5, torch.bfloat16: 0.02}[dtype]
    assert torch.allclose(y_TO.float(), wanted_TO, rtol=near, atol=near * float(wanted_TO.abs().max()))
