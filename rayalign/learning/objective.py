"""From the config's objectives to one loss over a micro-batch of groups."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from rayalign.config import InfoNCAObjective, NCAObjective, value_at
from rayalign.losses import info_nca_loss, nca_loss

REWARD_LOSSES = {"nca": nca_loss, "info_nca": info_nca_loss}


def objective_losses(
    objectives: Sequence[NCAObjective | InfoNCAObjective],
    round_index: int,
    policy_logps_GK: torch.Tensor,
    reference_logps_GK: torch.Tensor,
    rewards_GK: torch.Tensor,
    mask_GK: torch.Tensor,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Weighted sum of the objectives.

    Returns:
        ([G] loss of each group, metrics as means over the groups, each objective's own loss as `loss/<type>`).
    """
    total_G = torch.zeros_like(policy_logps_GK[:, 0])
    metrics: dict[str, torch.Tensor] = {}
    for objective in objectives:
        output = REWARD_LOSSES[objective.type](
            policy_logps_GK,
            reference_logps_GK,
            rewards_GK,
            alpha=value_at(objective.alpha, round_index),
            beta=value_at(objective.beta, round_index),
            mask_GK=mask_GK,
        )
        total_G = total_G + value_at(objective.weight, round_index) * output.per_group
        metrics |= output.metrics
        metrics[f"loss/{objective.type}"] = output.loss.detach()
    return total_G, metrics
