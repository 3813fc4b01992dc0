"""The fused LoRA layer against PEFT's own."""

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from rayalign.learning.lora import fuse_lora


class Net(torch.nn.Module):
    def __init__(self, *, bias: bool) -> None:
        super().__init__()
        self.up = torch.nn.Linear(12, 20, bias=bias)
        self.down = torch.nn.Linear(20, 12, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(torch.tanh(self.up(x)))


def make(*, bias: bool = False, **lora: Any) -> Any:
    torch.manual_seed(0)
    model = get_peft_model(
        Net(bias=bias), LoraConfig(**{"r": 4, "lora_alpha": 6, "target_modules": ["up", "down"], **lora})
    )
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    return model.double()


def outcome(model: Any, x: torch.Tensor) -> list[torch.Tensor]:
    """The output, and the gradients for the input and the adapter."""
    x = x.clone().requires_grad_()
    out = model(x)
    model.zero_grad()
    (out.sin() * torch.arange(12)).sum().backward()
    return [out.detach(), x.grad, *(p.grad for p in model.parameters() if p.requires_grad)]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(7, 12), (1, 7, 12), (2, 3, 12)])
def test_it_is_pefts_layer(shape: tuple[int, ...], bias: bool) -> None:
    theirs, ours = make(bias=bias), make(bias=bias)
    assert fuse_lora(ours) == 2
    x = torch.randn(shape, dtype=torch.float64)
    for mine, expected in zip(outcome(ours, x), outcome(theirs, x), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-12, atol=1e-12)


def test_the_adapter_can_be_off() -> None:
    theirs, ours = make(), make()
    fuse_lora(ours)
    x = torch.randn(5, 12, dtype=torch.float64)
    with ours.disable_adapter(), theirs.disable_adapter():
        assert torch.equal(ours(x), theirs(x))
        off = ours(x)
    torch.testing.assert_close(ours(x), theirs(x))
    assert not torch.allclose(ours(x), off)


@pytest.mark.parametrize("lora", [{"lora_dropout": 0.1}, {"use_dora": True}, {"lora_bias": True}])
def test_other_layers_stay_as_they_are(lora: dict[str, Any]) -> None:
    assert fuse_lora(make(bias=True, **lora)) == 0


def mixed(*, bias: bool = False) -> Any:
    """A bfloat16 net beside which PEFT keeps its adapter in float32."""
    torch.manual_seed(0)
    net = Net(bias=bias).bfloat16()
    model = get_peft_model(net, LoraConfig(r=4, lora_alpha=6, target_modules=["up", "down"]))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    return model


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(7, 12), (1, 300, 12), (2, 3, 12)])
def test_beside_bfloat16_every_number_is_pefts(shape: tuple[int, ...], bias: bool) -> None:
    theirs, ours = mixed(bias=bias), mixed(bias=bias)
    assert ours.get_base_model().up.lora_A["default"].weight.dtype == torch.float32
    assert fuse_lora(ours) == 2
    x = torch.randn(shape).bfloat16()
    for mine, expected in zip(outcome(ours, x), outcome(theirs, x), strict=True):
        assert mine.dtype == expected.dtype and torch.equal(mine, expected)


def kept_bytes(model: Any, x: torch.Tensor) -> int:
    """What the forward pass keeps for the backward pass, weights apart, each storage once."""
    weights = {parameter.data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = model(x)
    assert out.requires_grad
    return sum(kept.values())


def test_beside_bfloat16_no_input_is_kept_in_float32() -> None:
    """Per token: the inputs of both layers and the product of A, instead of float32 copies of the inputs too."""
    tokens, x = 64, torch.randn(64, 12).bfloat16().requires_grad_()
    theirs, ours = mixed(), mixed()
    fuse_lora(ours)
    assert kept_bytes(ours, x) == tokens * (2 * (12 + 20) + 4 * (4 + 4))
    assert kept_bytes(theirs, x) == tokens * (4 * (12 + 20) + 2 * 20 + 4 * (4 + 4))


def test_other_dtypes_stay_as_they_are() -> None:
    assert fuse_lora(mixed().half()) == 2
    model = mixed()
    model.get_base_model().half()
    for name, parameter in model.named_parameters():
        if "lora" in name:
            parameter.data = parameter.data.float()
    assert fuse_lora(model) == 0
