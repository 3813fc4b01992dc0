"""CUT, Contrastive Unlikelihood Training: what a judgment criticises becomes less likely (Xu et al. 2023, 2312.14591).

A negative row is a flawed response y with its judgment j, scored twice, token by token: log p(y_t|x) in the plain
stream and log p(y_t|x,j) in the judged one. A positive row has the plain stream only. N is a response's own length:

    U      = { t : p(y_t|x,j) > threshold * p(y_t|x) }                                     flagged tokens
    L1     = -1/N [ sum_{t not in U} log p(y_t|x) + sum_{t in U} weight * p(y_t|x,j)^gamma * log(1 - p(y_t|x)) ]
    L2     = -1/N sum_t log p(y_t|x,j)
    L_CUT  = L1 + L2 of a negative row, -1/N sum_t log p(y_t|x) of a positive one

as in v4 of the paper. The released code halves the loss of a micro-batch with a negative in it and divides by the
tokens of the micro-batch; here a row's loss depends on that row alone. Everything is computed from log-probabilities,
so that none of it overflows however small p is.

Shapes: B rows, T token slots. Losses are in nats.
"""

from __future__ import annotations

import math

import torch

from rayalign.losses.checks import check_logps, check_not_negative, check_positive, check_same_shape
from rayalign.losses.output import LossOutput


def cut_loss(
    plain_logps_BT: torch.Tensor,
    judged_logps_BT: torch.Tensor,
    response_mask_BT: torch.Tensor,
    negative_B: torch.Tensor,
    *,
    threshold: float,
    weight: float,
    gamma: float = 0.0,
    detect: bool = True,
    unlikelihood: bool = True,
) -> LossOutput:
    """L_CUT = L1 + L2 per row (arXiv 2312.14591v4).

    The dynamic weight p(y_t|x,j)^gamma is a constant to the gradient: with a gradient it would lower the judged
    stream's probability of the flagged tokens, which L2 raises.

    Args:
        plain_logps_BT: log p(y_t|x) of each response token, nats, float32 or float64.
        judged_logps_BT: log p(y_t|x,j) of the same tokens at the same positions; not read in positive rows.
        response_mask_BT: True where a slot holds a response token.
        negative_B: True where a row has a judgment that criticises it.
        threshold: the paper's lambda, > 0. A flagged token has p(y_t|x) < 1/threshold, which bounds the
            unlikelihood term only if threshold > 1.
        weight: the paper's alpha, >= 0, of the unlikelihood term.
        gamma: exponent of the dynamic weight, >= 0.
        detect: False is the ablation without token detection: every token of a negative row counts as flagged.
        unlikelihood: False is the control in which flagged tokens have no term in L1 at all.

    Returns:
        `per_group` is [B]; a row without response tokens has loss 0 and gradient 0. Metrics as `_metrics` says.

    Raises:
        ValueError: a threshold not positive and finite; a weight or gamma negative or not finite; log-probabilities
            of another type; shapes that differ.
    """
    check_positive(threshold=threshold)
    check_not_negative(weight=weight, gamma=gamma)
    response_BT, judged_BT = _masks(plain_logps_BT, judged_logps_BT, response_mask_BT, negative_B)
    flagged_BT = _flags(plain_logps_BT, judged_logps_BT, judged_BT, threshold) if detect else judged_BT
    lengths_B = response_BT.sum(-1).clamp(min=1)
    plain_B = -_only(response_BT & ~flagged_BT, plain_logps_BT).sum(-1) / lengths_B
    judged_B = -_only(judged_BT, judged_logps_BT).sum(-1) / lengths_B
    unlikely_BT = weight * _log1mexp(_only(flagged_BT, plain_logps_BT, fill=-math.inf))  # log(1 - 0) elsewhere: 0.
    if gamma:  # Without it the weight is 1, also where p(y_t|x,j) is 0.
        unlikely_BT = unlikely_BT * torch.exp(gamma * _only(flagged_BT, judged_logps_BT.detach()))
    unlikelihood_B = -unlikely_BT.sum(-1) / lengths_B if unlikelihood else torch.zeros_like(plain_B)
    per_row = plain_B + judged_B + unlikelihood_B
    metrics = _metrics(plain_B, judged_B, unlikelihood_B, flagged_BT, judged_BT, negative_B)
    return LossOutput(per_row.mean(), per_row, metrics)


@torch.no_grad()
def flagged_tokens(
    plain_logps_BT: torch.Tensor,
    judged_logps_BT: torch.Tensor,
    response_mask_BT: torch.Tensor,
    negative_B: torch.Tensor,
    *,
    threshold: float,
) -> torch.Tensor:
    """[B, T] bool: the flagged tokens of negative rows, the set U of arXiv 2312.14591v4.

    log p(y_t|x,j) - log p(y_t|x) > ln threshold; equality is not flagged, nor is a token impossible in both streams.
    Arguments and errors as `cut_loss`.
    """
    check_positive(threshold=threshold)
    _, judged_BT = _masks(plain_logps_BT, judged_logps_BT, response_mask_BT, negative_B)
    return _flags(plain_logps_BT, judged_logps_BT, judged_BT, threshold)


@torch.no_grad()
def _flags(
    plain_logps_BT: torch.Tensor, judged_logps_BT: torch.Tensor, judged_BT: torch.Tensor, threshold: float
) -> torch.Tensor:
    return judged_BT & (judged_logps_BT - plain_logps_BT > math.log(threshold))


def _masks(
    plain_logps_BT: torch.Tensor,
    judged_logps_BT: torch.Tensor,
    response_mask_BT: torch.Tensor,
    negative_B: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Response tokens of all rows and of the negative ones, [B, T] bool each, after the checks."""
    check_logps(plain_logps_BT=plain_logps_BT, judged_logps_BT=judged_logps_BT)
    check_same_shape(plain_logps_BT=plain_logps_BT, judged_logps_BT=judged_logps_BT, response_mask_BT=response_mask_BT)
    check_same_shape(rows_of_response_mask_BT=response_mask_BT.any(-1), negative_B=negative_B)
    response_BT = response_mask_BT.bool()
    return response_BT, response_BT & negative_B.bool()[:, None]


def _only(mask_BT: torch.Tensor, values_BT: torch.Tensor, fill: float = 0.0) -> torch.Tensor:
    """`fill` where the mask is False, with gradient 0 whatever stands there: 0 * NaN would be NaN."""
    return torch.where(mask_BT, values_BT, torch.full_like(values_BT, fill))


def _log1mexp(logps: torch.Tensor) -> torch.Tensor:
    """log(1 - exp(logp)) for logp <= 0, finite everywhere: 0 at -inf; at 0, 1 - p is the least normal number instead.

    Two forms, each exact on its side of ln 1/2 (Mächler 2012, "Accurately computing log(1 - exp(-|a|))").
    """
    logps = logps.clamp(max=-torch.finfo(logps.dtype).tiny)
    near_one = logps > -math.log(2)
    # Where exp(logp) rounds to 1, the second form's gradient is infinite, and 0 * inf is NaN: it gets a harmless input.
    far = torch.where(near_one, -torch.ones_like(logps), logps)
    return torch.where(near_one, torch.log(-torch.expm1(logps)), torch.log1p(-torch.exp(far)))


@torch.no_grad()
def _metrics(
    plain_B: torch.Tensor,
    judged_B: torch.Tensor,
    unlikelihood_B: torch.Tensor,
    flagged_BT: torch.Tensor,
    judged_BT: torch.Tensor,
    negative_B: torch.Tensor,
) -> dict[str, torch.Tensor]:
    """Means over all B rows, so that averages over micro-batches stay exact.

    The first three add up to the loss. `cut/negative_rows` is 1 for a negative row; `cut/negative_tokens` and
    `cut/flagged_tokens` count its tokens. `cut/flagged_share` is flagged / negative tokens, NaN without any.
    """
    dtype = plain_B.dtype
    tokens, flagged = judged_BT.sum(-1).to(dtype).mean(), flagged_BT.sum(-1).to(dtype).mean()
    return {
        "cut/plain_likelihood": plain_B.mean(),
        "cut/judged_likelihood": judged_B.mean(),
        "cut/unlikelihood": unlikelihood_B.mean(),
        "cut/negative_rows": negative_B.to(dtype).mean(),
        "cut/negative_tokens": tokens,
        "cut/flagged_tokens": flagged,
        "cut/flagged_share": flagged / tokens,
    }
