"""Negative log-likelihood of given tokens: SFT, and the baselines that learn from judgments by likelihood alone.

The baselines of arXiv 2312.14591 are this loss on different rows; c -> t means the log-probabilities of t given c:

    SFT on positives     x -> y
    Hindsight            (x, j) -> y
    ILF-MLE              x -> a response rewritten from (x, y, j)
    Forward Prediction   x -> y  plus  (x, y) -> j     two calls, added per row
"""

from __future__ import annotations

from typing import Literal

import torch

from rayalign.losses.checks import check_logps, check_same_shape
from rayalign.losses.output import LossOutput


def nll_loss(
    logps_BT: torch.Tensor, mask_BT: torch.Tensor, *, normalise: Literal["sequence", "sum"] = "sequence"
) -> LossOutput:
    """-(1/N) sum_t log p_t of each row, N its own number of tokens (L2 of arXiv 2312.14591v4, I = 1).

    Args:
        logps_BT: log-probabilities of B rows with T token slots, nats, float32 or float64.
        mask_BT: True where a slot holds a token to learn; what stands elsewhere (NaN too) is not read.
        normalise: "sequence" divides by N, nats per token; "sum" does not, nats per row.

    Returns:
        `per_group` is [B]; a row without tokens has loss 0 and gradient 0. Metrics, means over the rows:
        `nll/sequence`, nats per row, and `nll/tokens`; their ratio is the loss per token.

    Raises:
        ValueError: another `normalise`; log-probabilities of another type; shapes that differ.
    """
    if normalise not in ("sequence", "sum"):
        raise ValueError(f"normalise is {normalise!r}: it must be 'sequence' or 'sum'")
    check_logps(logps_BT=logps_BT)
    check_same_shape(logps_BT=logps_BT, mask_BT=mask_BT)
    mask_BT = mask_BT.bool()
    # where, not multiplication: NaN in a padded slot must not reach the gradient.
    sums_B = -torch.where(mask_BT, logps_BT, torch.zeros_like(logps_BT)).sum(-1)
    counts_B = mask_BT.sum(-1)
    per_row = sums_B / counts_B.clamp(min=1) if normalise == "sequence" else sums_B
    metrics = {"nll/sequence": sums_B.detach().mean(), "nll/tokens": counts_B.to(sums_B.dtype).mean()}
    return LossOutput(per_row.mean(), per_row, metrics)
