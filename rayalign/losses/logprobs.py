"""Log-probabilities of given tokens, without ever holding a [tokens, vocabulary] tensor of a whole batch."""

from __future__ import annotations

from typing import Protocol

import torch
from torch.utils.checkpoint import checkpoint

CHUNK_LOGITS = 2**24
"""Logits that are held at a time (64 MiB in float32)."""


def token_logps(
    hidden_NH: torch.Tensor,
    targets_N: torch.Tensor,
    lm_head: torch.nn.Module,
    *,
    chunk_tokens: int | None = None,
    frozen_linear: bool | None = None,
) -> torch.Tensor:
    """Log-probability of each target token given the hidden state that predicts it.

    Where the head is a frozen linear layer, the forward pass also computes d logp / d hidden, [N, H], while it has the
    chunk's logits; the backward pass is then a product. Its logits of bfloat16 weights are float32: rounded to bfloat16
    they would move a log-probability by more than an update does. Other heads make their logits again in the backward
    pass.

    Args:
        hidden_NH: hidden states of the N predicting positions.
        targets_N: the token that follows each of them.
        lm_head: maps [*, H] to logits [*, V].
        chunk_tokens: logits are made for this many positions at a time; by default as many as `CHUNK_LOGITS` allows.
        frozen_linear: whether the head is a frozen linear layer; by default it is looked at.

    Returns:
        [N] in float32, nats, at temperature 1.
    """
    if not len(targets_N):
        return hidden_NH.float().sum(-1)  # Empty, but in the graph: backward gives zeros instead of an error.
    chunk = chunk_tokens or max(64, CHUNK_LOGITS // getattr(lm_head, "out_features", 2**15))
    if is_frozen_linear(lm_head) if frozen_linear is None else frozen_linear:
        return _FrozenHead.apply(hidden_NH, targets_N, lm_head.weight, lm_head.bias, chunk)
    chunks = zip(hidden_NH.split(chunk), targets_N.split(chunk), strict=True)
    remake = torch.is_grad_enabled() and len(targets_N) > chunk
    logps = [
        checkpoint(_chunk_logps, hidden, targets, lm_head, use_reentrant=False)
        if remake
        else _chunk_logps(hidden, targets, lm_head)
        for hidden, targets in chunks
    ]
    return torch.cat(logps)


def is_frozen_linear(lm_head: torch.nn.Module) -> bool:
    """A linear layer that nothing is hooked into and whose weights get no gradient."""
    if type(lm_head) is not torch.nn.Linear:
        return False
    hooked = lm_head._forward_hooks or lm_head._forward_pre_hooks
    return not hooked and not any(parameter.requires_grad for parameter in lm_head.parameters())


def _chunk_logps(hidden_CH: torch.Tensor, targets_C: torch.Tensor, lm_head: torch.nn.Module) -> torch.Tensor:
    logits_CV = lm_head(hidden_CH).float()
    return logits_CV.gather(-1, targets_C[:, None])[:, 0] - logits_CV.logsumexp(-1)


def _logits(hidden_CH: torch.Tensor, weight_VH: torch.Tensor, bias_V: torch.Tensor | None) -> torch.Tensor:
    """[C, V] h W^T + b in float32, on a GPU also where W is stored in less."""
    if hidden_CH.is_cuda and weight_VH.dtype.itemsize < 4:
        logits_CV = torch.mm(hidden_CH, weight_VH.t(), out_dtype=torch.float32)
        return logits_CV if bias_V is None else logits_CV.add_(bias_V)
    bias_V = None if bias_V is None else bias_V.to(weight_VH.dtype)
    return torch.nn.functional.linear(hidden_CH.to(weight_VH.dtype), weight_VH, bias_V).float()


class _Context(Protocol):
    """What autograd hands from the forward to the backward pass."""

    saved_tensors: tuple[torch.Tensor, ...]

    def save_for_backward(self, *tensors: torch.Tensor | None) -> None: ...


class _FrozenHead(torch.autograd.Function):
    """log softmax(h W^T + b)[y], with d logp / d h = W[y] - softmax(h W^T + b) W kept from the forward pass."""

    @staticmethod
    def forward(
        ctx: _Context,
        hidden_NH: torch.Tensor,
        targets_N: torch.Tensor,
        weight_VH: torch.Tensor,
        bias_V: torch.Tensor | None,
        chunk_tokens: int,
    ) -> torch.Tensor:
        logps_N = hidden_NH.new_empty(len(targets_N), dtype=torch.float32)
        slopes_NH = torch.empty_like(hidden_NH) if hidden_NH.requires_grad else None
        # On a CPU a product is as exact as its factors' type: made float32 once, not for every chunk.
        exact_VH = weight_VH if hidden_NH.is_cuda or weight_VH.dtype.itemsize >= 4 else weight_VH.float()
        for start in range(0, len(targets_N), chunk_tokens):
            here = slice(start, start + chunk_tokens)
            targets_C = targets_N[here, None]
            logits_CV = _logits(hidden_NH[here], exact_VH, bias_V)
            normaliser_C1 = logits_CV.logsumexp(-1, keepdim=True)
            logps_N[here] = (logits_CV.gather(-1, targets_C) - normaliser_C1)[:, 0]
            if slopes_NH is not None:
                probabilities_CV = logits_CV.sub_(normaliser_C1).exp_().to(weight_VH.dtype)
                torch.sub(weight_VH[targets_C[:, 0]], probabilities_CV @ weight_VH, out=slopes_NH[here])
        ctx.save_for_backward(slopes_NH)
        return logps_N

    @staticmethod
    def backward(ctx: _Context, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient_N,) = gradients
        (slopes_NH,) = ctx.saved_tensors
        return gradient_N[:, None].to(slopes_NH.dtype) * slopes_NH, None, None, None, None
