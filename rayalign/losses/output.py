"""What every loss returns."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class LossOutput:
    """A loss over G groups (or B rows)."""

    loss: torch.Tensor
    """Scalar: mean of `per_group`."""
    per_group: torch.Tensor
    """[G], unreduced, so that a learner can normalise by a global count."""
    metrics: dict[str, torch.Tensor]
    """Detached scalars, each a mean over the groups (or rows); NaN where there is nothing to average."""
