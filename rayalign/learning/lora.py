"""A LoRA layer in one autograd function: no [T, out] temporary of it, and no second copy of its input, stays in memory.

Where layer and adapter are of one dtype, the thin products add into the frozen layer's result where it lies. Beside a
bfloat16 layer PEFT keeps the adapter in float32, and its input with it: here the layer's own input is kept, and cast
again in the backward pass; every number of a layer is PEFT's, to the bit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Protocol

import torch
from peft.tuners.lora.layer import Linear


def fuse_lora(model: torch.nn.Module) -> int:
    """Let the plain LoRA layers of `model` compute what PEFT's do, in less memory.

    Layers with dropout, a bias of their own, a variant (DoRA), other dtypes than one, or float32 beside bfloat16, or a
    base that is no plain linear layer (quantised ones) stay as they are. Not for parameters that are whole only while
    their own module runs (ZeRO-3).

    Returns:
        The number of layers that were changed.
    """
    plain = [module for module in model.modules() if type(module) is Linear and _is_plain(module)]
    for layer in plain:
        layer.forward = functools.partial(_forward, layer, layer.forward)
    return len(plain)


def _is_plain(layer: Linear) -> bool:
    if type(layer.base_layer) is not torch.nn.Linear or layer.active_adapters != ["default"]:
        return False
    a, b, base = layer.lora_A["default"], layer.lora_B["default"], layer.base_layer
    variant = layer.lora_variant or layer.fan_in_fan_out or layer.lora_bias["default"]
    kinds = (base.weight.dtype, a.weight.dtype, b.weight.dtype)
    known = len(set(kinds)) == 1 or kinds == (torch.bfloat16, torch.float32, torch.float32)
    return bool(not variant and known) and isinstance(layer.lora_dropout["default"], torch.nn.Identity)


def _forward(
    layer: Linear, peft_forward: Callable[..., torch.Tensor], x: torch.Tensor, *args: object, **kwargs: object
) -> torch.Tensor:
    if args or kwargs or layer.disable_adapters or layer.merged:
        return peft_forward(x, *args, **kwargs)
    base, a, b = layer.base_layer, layer.lora_A["default"], layer.lora_B["default"]
    function = _LoraLinear if a.weight.dtype == base.weight.dtype else _Float32LoraLinear
    return function.apply(x, base.weight, base.bias, a.weight, b.weight, layer.scaling["default"])


class _Context(Protocol):
    """What autograd hands from the forward to the backward pass."""

    scale: float
    needs_input_grad: tuple[bool, ...]
    saved_tensors: tuple[torch.Tensor, ...]

    def save_for_backward(self, *tensors: torch.Tensor) -> None: ...


class _LoraLinear(torch.autograd.Function):
    """x W^T + bias + s (x A^T) B^T, with gradients for x, A and B; W and its bias are frozen."""

    @staticmethod
    def forward(
        ctx: _Context,
        x: torch.Tensor,
        weight_OI: torch.Tensor,
        bias_O: torch.Tensor | None,
        a_RI: torch.Tensor,
        b_OR: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        x_TI = x.reshape(-1, x.shape[-1])
        y_TO = torch.nn.functional.linear(x_TI, weight_OI, bias_O)
        low_TR = x_TI @ a_RI.t()
        y_TO.addmm_(low_TR, b_OR.t(), alpha=scale)
        ctx.save_for_backward(x_TI, weight_OI, a_RI, b_OR, low_TR)
        ctx.scale = scale
        return y_TO.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: _Context, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x_TI, weight_OI, a_RI, b_OR, low_TR = ctx.saved_tensors
        (grad,) = gradients
        grad_TO = grad.reshape(-1, grad.shape[-1])
        grad_low_TR = (grad_TO @ b_OR).mul_(ctx.scale)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = (grad_TO @ weight_OI).addmm_(grad_low_TR, a_RI).view(*grad.shape[:-1], -1)
        grad_a = grad_low_TR.t() @ x_TI
        grad_b = (grad_TO.t() @ low_TR).mul_(ctx.scale)
        return grad_x, None, None, grad_a, grad_b, None


class _Float32LoraLinear(torch.autograd.Function):
    """The same where x, W and bias are bfloat16, and A and B float32: added in float32, and rounded once."""

    @staticmethod
    def forward(
        ctx: _Context,
        x: torch.Tensor,
        weight_OI: torch.Tensor,
        bias_O: torch.Tensor | None,
        a_RI: torch.Tensor,
        b_OR: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        x_TI = x.reshape(-1, x.shape[-1])
        low_TR = x_TI.float() @ a_RI.t()
        change_TO = (low_TR @ b_OR.t()).mul_(scale)
        y_TO = change_TO.add_(torch.nn.functional.linear(x_TI, weight_OI, bias_O)).to(x.dtype)
        ctx.save_for_backward(x_TI, weight_OI, a_RI, b_OR, low_TR)
        ctx.scale = scale
        return y_TO.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: _Context, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x_TI, weight_OI, a_RI, b_OR, low_TR = ctx.saved_tensors
        (grad,) = gradients
        grad_TO = grad.reshape(-1, grad.shape[-1])
        change_TO = grad_TO.float().mul_(ctx.scale)
        grad_low_TR = change_TO @ b_OR
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = (grad_TO @ weight_OI).add_((grad_low_TR @ a_RI).to(grad.dtype)).view(*grad.shape[:-1], -1)
        grad_a = grad_low_TR.t() @ x_TI.float()
        grad_b = change_TO.t() @ low_TR
        return grad_x, None, None, grad_a, grad_b, None
