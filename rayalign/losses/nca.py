"""InfoNCA and NCA: K-way contrastive alignment with scalar rewards (Chen et al. 2024, arXiv 2402.05369).

For one prompt with K responses, rewards r and summed log-probabilities under policy and reference:

    s_i = beta * (log pi(y_i|x) - log mu(y_i|x))        implicit reward
    w_i = exp(r_i / alpha) / sum_j exp(r_j / alpha)     soft label
    InfoNCA = - sum_i w_i log softmax(s)_i
    NCA     = - sum_i w_i log sigma(s_i) - (1/K) sum_i log sigma(-s_i)

Shapes: G groups, K slots. Ragged groups mark their real slots in `mask_GK`; padded slots carry no weight and get a
gradient of exactly zero. A response that stands twice in a group counts twice: both weights add up, and so do both
shares of the noise term, as for two draws from mu.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from rayalign.losses.checks import check_logps, check_positive, check_same_shape
from rayalign.losses.contrast import contrast_metrics, log_ratios
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
        policy_logps_GK: summed response log-probabilities under the policy, nats, float32 or float64.
        reference_logps_GK: the same under the frozen reference.
        rewards_GK: finite rewards; -inf means weight 0.
        alpha: reward temperature, > 0; divides the rewards.
        beta: scale of the implicit reward, > 0.
        mask_GK: True where a slot holds a response.

    Raises:
        ValueError: alpha or beta not positive and finite; a NaN or +inf reward; a group without a usable response;
            log-probabilities of another type; shapes that differ.
    """
    mask_GK = torch.ones_like(rewards_GK, dtype=torch.bool) if mask_GK is None else mask_GK
    ratios_GK, weights_GK = _ratios_and_labels(policy_logps_GK, reference_logps_GK, rewards_GK, mask_GK, alpha, beta)
    scores_GK = beta * ratios_GK
    counts_G = mask_GK.sum(-1).to(scores_GK.dtype)
    data_G = -(weights_GK * F.logsigmoid(scores_GK)).sum(-1)
    noise_G = -(F.logsigmoid(-scores_GK) * mask_GK).sum(-1) / counts_G
    per_group = data_G + noise_G
    return LossOutput(per_group.mean(), per_group, _best_and_worst(ratios_GK, rewards_GK, mask_GK, beta))


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
    ratios_GK, weights_GK = _ratios_and_labels(policy_logps_GK, reference_logps_GK, rewards_GK, mask_GK, alpha, beta)
    scores_GK = beta * ratios_GK
    log_softmax_GK = F.log_softmax(scores_GK.masked_fill(~mask_GK, -math.inf), dim=-1)
    per_group = -(weights_GK * log_softmax_GK.masked_fill(~mask_GK, 0.0)).sum(-1)
    return LossOutput(per_group.mean(), per_group, _best_and_worst(ratios_GK, rewards_GK, mask_GK, beta))


def _ratios_and_labels(
    policy_logps_GK: torch.Tensor,
    reference_logps_GK: torch.Tensor,
    rewards_GK: torch.Tensor,
    mask_GK: torch.Tensor,
    alpha: float,
    beta: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-ratios [G, K] and soft labels [G, K], after the checks that both losses make."""
    _check(policy_logps_GK, reference_logps_GK, rewards_GK, mask_GK, alpha, beta)
    ratios_GK = log_ratios(policy_logps_GK, reference_logps_GK, mask_GK)
    return ratios_GK, _soft_labels(rewards_GK, mask_GK, alpha).to(ratios_GK.dtype)


def _check(
    policy_logps_GK: torch.Tensor,
    reference_logps_GK: torch.Tensor,
    rewards_GK: torch.Tensor,
    mask_GK: torch.Tensor,
    alpha: float,
    beta: float,
) -> None:
    check_positive(alpha=alpha, beta=beta)
    check_logps(policy_logps_GK=policy_logps_GK, reference_logps_GK=reference_logps_GK)
    check_same_shape(
        policy_logps_GK=policy_logps_GK, reference_logps_GK=reference_logps_GK, rewards_GK=rewards_GK, mask_GK=mask_GK
    )
    bad_GK = mask_GK & (torch.isnan(rewards_GK) | (rewards_GK == math.inf))
    if bad_GK.any():
        group, slot = (int(i) for i in bad_GK.nonzero()[0])
        raise ValueError(f"reward of group {group}, response {slot} is {float(rewards_GK[group, slot])}")
    usable_G = (mask_GK & (rewards_GK > -math.inf)).any(-1)
    if not usable_G.all():
        group = int((~usable_G).nonzero()[0])
        raise ValueError(f"group {group} has no response with a finite reward")


def _soft_labels(rewards_GK: torch.Tensor, mask_GK: torch.Tensor, alpha: float) -> torch.Tensor:
    """softmax(r / alpha) over the real slots, for any alpha > 0: towards 0 the best share the mass, towards inf all."""
    rewards_GK = rewards_GK.masked_fill(~mask_GK, -math.inf)
    # The maximum goes first: r / alpha overflows for small alpha.
    gaps_GK = rewards_GK - rewards_GK.max(-1, keepdim=True).values
    # An alpha beyond the type's range would make 0 / 0 of the best and inf / inf of what has no weight.
    logits_GK = (gaps_GK / alpha).masked_fill(gaps_GK == 0, 0.0).masked_fill(gaps_GK == -math.inf, -math.inf)
    return torch.softmax(logits_GK, dim=-1)


@torch.no_grad()
def _best_and_worst(
    ratios_GK: torch.Tensor, rewards_GK: torch.Tensor, mask_GK: torch.Tensor, beta: float
) -> dict[str, torch.Tensor]:
    """Metrics of the best and the worst response; accuracy is how often the best beats those of a lower reward."""
    best_G1 = rewards_GK.masked_fill(~mask_GK, -math.inf).argmax(-1, keepdim=True)
    worst_G1 = rewards_GK.masked_fill(~mask_GK, math.inf).argmin(-1, keepdim=True)
    best_ratio_G1 = ratios_GK.gather(-1, best_G1)
    lower_GK = mask_GK & (rewards_GK < rewards_GK.gather(-1, best_G1))
    wins_GK = (best_ratio_G1 > ratios_GK) & lower_GK
    accuracy_G = wins_GK.sum(-1) / lower_GK.sum(-1).clamp(min=1)
    contested_G = lower_GK.any(-1)
    accuracy = accuracy_G[contested_G].mean() if contested_G.any() else accuracy_G.new_full((), math.nan)
    worst_ratio_G = ratios_GK.gather(-1, worst_G1)[:, 0]
    return contrast_metrics(best_ratio_G1[:, 0], worst_ratio_G, accuracy, beta=beta, names=("best", "worst"))
