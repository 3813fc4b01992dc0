"""InfoNCA and NCA: K-way contrastive alignment with scalar rewards (Chen et al. 2024, arXiv 2402.05369).

For one prompt with K responses, rewards r and summed log-probabilities under policy and reference:

    s_i = beta * (log pi(y_i|x) - log mu(y_i|x))        implicit reward
    w_i = exp(r_i / alpha) / sum_j exp(r_j / alpha)     soft label
    InfoNCA = - sum_i w_i log softmax(s)_i
    NCA     = - sum_i w_i log sigma(s_i) - (1/K) sum_i log sigma(-s_i)

Shapes: G groups, K slots. Ragged groups mark their real slots in `mask_GK`; padded slots carry no weight and get a
gradient of exactly zero.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from rayalign.losses.output import LossOutput


def nca_loss(
    policy_logps_GK: torch.Tensor,
    reference_logps_GK: torch.Tensor,
    rewards_GK: torch.Tensor,
    *,
    alpha: float,
    beta: float,
    mask_GK: torch.Tensor | None = None,
) -> LossOutput:
    """NCA with reward labels (arXiv 2402.05369, the NCA objective for K responses); 1/K is each group's own K.

    Args:
        policy_logps_GK: summed response log-probabilities under the policy, nats.
        reference_logps_GK: the same under the frozen reference.
        rewards_GK: finite rewards; -inf means weight 0.
        alpha: reward temperature, > 0; divides the rewards.
        beta: scale of the implicit reward, > 0.
        mask_GK: True where a slot holds a response.

    Raises:
        ValueError: alpha or beta not positive and finite; a NaN or +inf reward; a group without a usable response.
    """
    mask_GK = torch.ones_like(rewards_GK, dtype=torch.bool) if mask_GK is None else mask_GK
    scores_GK, weights_GK = _scores_and_weights(policy_logps_GK, reference_logps_GK, rewards_GK, alpha, beta, mask_GK)
    counts_G = mask_GK.sum(-1).to(scores_GK.dtype)
    data_G = -(weights_GK * F.logsigmoid(scores_GK)).sum(-1)
    noise_G = -(F.logsigmoid(-scores_GK) * mask_GK).sum(-1) / counts_G
    per_group = data_G + noise_G
    return LossOutput(per_group.mean(), per_group, _implicit_reward_metrics(scores_GK, rewards_GK, mask_GK))


def info_nca_loss(
    policy_logps_GK: torch.Tensor,
    reference_logps_GK: torch.Tensor,
    rewards_GK: torch.Tensor,
    *,
    alpha: float,
    beta: float,
    mask_GK: torch.Tensor | None = None,
) -> LossOutput:
    """InfoNCA with reward labels (arXiv 2402.05369): K-way cross-entropy. Arguments and errors as `nca_loss`."""
    mask_GK = torch.ones_like(rewards_GK, dtype=torch.bool) if mask_GK is None else mask_GK
    scores_GK, weights_GK = _scores_and_weights(policy_logps_GK, reference_logps_GK, rewards_GK, alpha, beta, mask_GK)
    log_softmax_GK = F.log_softmax(scores_GK.masked_fill(~mask_GK, -math.inf), dim=-1)
    per_group = -(weights_GK * log_softmax_GK.masked_fill(~mask_GK, 0.0)).sum(-1)
    return LossOutput(per_group.mean(), per_group, _implicit_reward_metrics(scores_GK, rewards_GK, mask_GK))


def _scores_and_weights(
    policy_logps_GK: torch.Tensor,
    reference_logps_GK: torch.Tensor,
    rewards_GK: torch.Tensor,
    alpha: float,
    beta: float,
    mask_GK: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    for name, value in (("alpha", alpha), ("beta", beta)):
        if not (value > 0 and math.isfinite(value)):
            raise ValueError(f"{name} is {value}: it must be positive and finite")
    _check_rewards(rewards_GK, mask_GK)
    # where, not multiplication: whatever stands in a padded slot (even NaN) must not reach loss or gradient.
    zeros_GK = torch.zeros_like(policy_logps_GK)
    scores_GK = beta * (
        torch.where(mask_GK, policy_logps_GK, zeros_GK) - torch.where(mask_GK, reference_logps_GK, zeros_GK)
    )
    rewards_GK = rewards_GK.masked_fill(~mask_GK, -math.inf)
    # The maximum goes first: r / alpha overflows for small alpha.
    logits_GK = (rewards_GK - rewards_GK.max(-1, keepdim=True).values) / alpha
    return scores_GK, torch.softmax(logits_GK, dim=-1).to(scores_GK.dtype)


def _check_rewards(rewards_GK: torch.Tensor, mask_GK: torch.Tensor) -> None:
    bad_GK = mask_GK & (torch.isnan(rewards_GK) | (rewards_GK == math.inf))
    if bad_GK.any():
        group, slot = (int(i) for i in bad_GK.nonzero()[0])
        raise ValueError(f"reward of group {group}, response {slot} is {float(rewards_GK[group, slot])}")
    usable_G = (mask_GK & (rewards_GK > -math.inf)).any(-1)
    if not usable_G.all():
        group = int((~usable_G).nonzero()[0])
        raise ValueError(f"group {group} has no response with a finite reward")


@torch.no_grad()
def _implicit_reward_metrics(
    scores_GK: torch.Tensor, rewards_GK: torch.Tensor, mask_GK: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Implicit rewards of the best and the worst response, their margin, and how often the best beats the others."""
    best_G1 = rewards_GK.masked_fill(~mask_GK, -math.inf).argmax(-1, keepdim=True)
    worst_G1 = rewards_GK.masked_fill(~mask_GK, math.inf).argmin(-1, keepdim=True)
    best_G1_score = scores_GK.gather(-1, best_G1)
    worst_G1_score = scores_GK.gather(-1, worst_G1)
    lower_GK = mask_GK & (rewards_GK < rewards_GK.gather(-1, best_G1))
    wins_GK = (best_G1_score > scores_GK) & lower_GK
    accuracy_G = wins_GK.sum(-1) / lower_GK.sum(-1).clamp(min=1)
    contested_G = lower_GK.any(-1)
    accuracy = accuracy_G[contested_G].mean() if contested_G.any() else accuracy_G.new_full((), math.nan)
    return {
        "implicit_reward/best": best_G1_score.mean(),
        "implicit_reward/worst": worst_G1_score.mean(),
        "implicit_reward/margin": (best_G1_score - worst_G1_score).mean(),
        "implicit_reward/accuracy": accuracy,
    }
