"""Losses on a preferred and a rejected response, and on one target against several negatives.

With s = beta * (log pi(y|x) - log mu(y|x)), log-probabilities summed over the response, mu a frozen reference:

    DPO            - log sigma(s_w - s_l)                               Rafailov et al. 2023, arXiv 2305.18290, eq. 7
    pairwise NCA   - log sigma(s_w) - (log sigma(-s_w) + log sigma(-s_l)) / 2      Chen et al. 2024, arXiv 2402.05369
    biased NCA     - log sigma(s_w) - log sigma(-s_l)                   code released with arXiv 2402.05369
    SPIN           - log sigma(s_w - s_l), mu the opponent              Chen et al. 2024, arXiv 2401.01335
    SPIN, hinge    max(0, 1 - (s_w - s_l))                              code released with arXiv 2401.01335
    Self-Contrast  - (1/k) sum_j log sigma(s_target - s_j)              Liu et al. 2024, arXiv 2404.00604

Shapes: B pairs; G prompts with up to K negatives. Losses and log-probabilities are in nats.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from rayalign.losses.checks import check_logps, check_positive, check_same_shape
from rayalign.losses.contrast import contrast_metrics, log_ratios
from rayalign.losses.output import LossOutput


def dpo_loss(
    policy_chosen_logps_B: torch.Tensor,
    policy_rejected_logps_B: torch.Tensor,
    reference_chosen_logps_B: torch.Tensor,
    reference_rejected_logps_B: torch.Tensor,
    *,
    beta: float,
) -> LossOutput:
    """DPO (arXiv 2305.18290): -log sigma(s_w - s_l); InfoNCA with two responses and a hard label.

    Args:
        policy_chosen_logps_B: summed log-probabilities of the preferred responses, nats, float32 or float64.
        policy_rejected_logps_B: the same of the rejected ones.
        reference_chosen_logps_B: the preferred ones under the frozen reference.
        reference_rejected_logps_B: the rejected ones under it.
        beta: scale of the implicit reward, > 0.

    Raises:
        ValueError: beta not positive and finite; log-probabilities of another type; shapes that differ.
    """
    pairs = (policy_chosen_logps_B, policy_rejected_logps_B, reference_chosen_logps_B, reference_rejected_logps_B)
    chosen_B, rejected_B = _pair_ratios(*pairs, beta=beta)
    return _pair_output(-F.logsigmoid(beta * (chosen_B - rejected_B)), chosen_B, rejected_B, beta)


def pairwise_nca_loss(
    policy_chosen_logps_B: torch.Tensor,
    policy_rejected_logps_B: torch.Tensor,
    reference_chosen_logps_B: torch.Tensor,
    reference_rejected_logps_B: torch.Tensor,
    *,
    beta: float,
) -> LossOutput:
    """NCA on preferences (arXiv 2402.05369): `nca_loss` with two responses and a hard label.

    -log sigma(s_w) - 1/2 log sigma(-s_w) - 1/2 log sigma(-s_l). Arguments and errors as `dpo_loss`.
    """
    pairs = (policy_chosen_logps_B, policy_rejected_logps_B, reference_chosen_logps_B, reference_rejected_logps_B)
    chosen_B, rejected_B = _pair_ratios(*pairs, beta=beta)
    noise_B = -(F.logsigmoid(-beta * chosen_B) + F.logsigmoid(-beta * rejected_B)) / 2
    return _pair_output(noise_B - F.logsigmoid(beta * chosen_B), chosen_B, rejected_B, beta)


def biased_nca_loss(
    policy_chosen_logps_B: torch.Tensor,
    policy_rejected_logps_B: torch.Tensor,
    reference_chosen_logps_B: torch.Tensor,
    reference_rejected_logps_B: torch.Tensor,
    *,
    beta: float,
) -> LossOutput:
    """-log sigma(s_w) - log sigma(-s_l): the rejected response alone stands for the noise.

    A variant in the code released with arXiv 2402.05369, not in the paper. Arguments and errors as `dpo_loss`.
    """
    pairs = (policy_chosen_logps_B, policy_rejected_logps_B, reference_chosen_logps_B, reference_rejected_logps_B)
    chosen_B, rejected_B = _pair_ratios(*pairs, beta=beta)
    per_row = -F.logsigmoid(beta * chosen_B) - F.logsigmoid(-beta * rejected_B)
    return _pair_output(per_row, chosen_B, rejected_B, beta)


def spin_loss(
    policy_chosen_logps_B: torch.Tensor,
    policy_rejected_logps_B: torch.Tensor,
    reference_chosen_logps_B: torch.Tensor,
    reference_rejected_logps_B: torch.Tensor,
    *,
    beta: float,
) -> LossOutput:
    """SPIN with the logistic loss (arXiv 2401.01335, the SPIN objective; beta is its lambda).

    The form is DPO's. What differs is the data: chosen is the SFT target, rejected a sample of the opponent, and the
    reference is that opponent, the policy at the start of the round. Arguments and errors as `dpo_loss`.
    """
    return dpo_loss(
        policy_chosen_logps_B, policy_rejected_logps_B, reference_chosen_logps_B, reference_rejected_logps_B, beta=beta
    )


def spin_hinge_loss(
    policy_chosen_logps_B: torch.Tensor,
    policy_rejected_logps_B: torch.Tensor,
    reference_chosen_logps_B: torch.Tensor,
    reference_rejected_logps_B: torch.Tensor,
    *,
    beta: float,
) -> LossOutput:
    """SPIN with the hinge loss, max(0, 1 - (s_w - s_l)): a pair that is apart by 1 teaches nothing more.

    From the code released with arXiv 2401.01335. Arguments and errors as `dpo_loss`.
    """
    pairs = (policy_chosen_logps_B, policy_rejected_logps_B, reference_chosen_logps_B, reference_rejected_logps_B)
    chosen_B, rejected_B = _pair_ratios(*pairs, beta=beta)
    return _pair_output(F.relu(1 - beta * (chosen_B - rejected_B)), chosen_B, rejected_B, beta)


def self_contrast_loss(
    policy_target_logps_G: torch.Tensor,
    policy_negative_logps_GK: torch.Tensor,
    reference_target_logps_G: torch.Tensor,
    reference_negative_logps_GK: torch.Tensor,
    *,
    beta: float,
    mask_GK: torch.Tensor | None = None,
) -> LossOutput:
    """Self-Contrast (arXiv 2404.00604): DPO of the SFT target against each negative.

    The mean of a prompt's k pairs, each a term of its own: one softmax over them would be one-hot InfoNCA.

    Args:
        policy_target_logps_G: summed log-probabilities of the SFT targets, nats, float32 or float64.
        policy_negative_logps_GK: the same of the self-generated negatives.
        reference_target_logps_G: the targets under the frozen reference.
        reference_negative_logps_GK: the negatives under it.
        beta: scale of the implicit reward, > 0.
        mask_GK: True where a slot holds a negative; the mean is over these.

    Raises:
        ValueError: beta not positive and finite; a prompt without negatives; log-probabilities of another type;
            shapes that differ.
    """
    negatives = (policy_negative_logps_GK, reference_negative_logps_GK)
    mask_GK = torch.ones_like(negatives[0], dtype=torch.bool) if mask_GK is None else mask_GK
    check_positive(beta=beta)
    _check_targets_and_negatives(policy_target_logps_G, reference_target_logps_G, *negatives, mask_GK)
    counts_G = mask_GK.sum(-1)
    target_G = log_ratios(policy_target_logps_G, reference_target_logps_G)
    negative_GK = log_ratios(*negatives, mask_GK)
    margins_GK = target_G[:, None] - negative_GK
    per_group = -(F.logsigmoid(beta * margins_GK) * mask_GK).sum(-1) / counts_G
    wins_G = ((margins_GK > 0) & mask_GK).sum(-1) / counts_G
    metrics = contrast_metrics(target_G, negative_GK.sum(-1) / counts_G, wins_G.mean(), beta=beta)
    return LossOutput(per_group.mean(), per_group, metrics)


def _check_targets_and_negatives(
    policy_target_logps_G: torch.Tensor,
    reference_target_logps_G: torch.Tensor,
    policy_negative_logps_GK: torch.Tensor,
    reference_negative_logps_GK: torch.Tensor,
    mask_GK: torch.Tensor,
) -> None:
    targets = {"policy_target_logps_G": policy_target_logps_G, "reference_target_logps_G": reference_target_logps_G}
    negatives = {
        "policy_negative_logps_GK": policy_negative_logps_GK,
        "reference_negative_logps_GK": reference_negative_logps_GK,
    }
    check_logps(**targets, **negatives)
    counts_G = mask_GK.sum(-1)
    check_same_shape(**targets, counts_of_mask_GK=counts_G)
    check_same_shape(**negatives, mask_GK=mask_GK)
    if not counts_G.all():
        raise ValueError(f"group {int((counts_G == 0).nonzero()[0])} has no negative")


def _pair_ratios(
    policy_chosen_logps_B: torch.Tensor,
    policy_rejected_logps_B: torch.Tensor,
    reference_chosen_logps_B: torch.Tensor,
    reference_rejected_logps_B: torch.Tensor,
    *,
    beta: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-ratios of chosen and rejected, after the checks that all pairwise losses make."""
    logps = {
        "policy_chosen_logps_B": policy_chosen_logps_B,
        "policy_rejected_logps_B": policy_rejected_logps_B,
        "reference_chosen_logps_B": reference_chosen_logps_B,
        "reference_rejected_logps_B": reference_rejected_logps_B,
    }
    check_positive(beta=beta)
    check_logps(**logps)
    check_same_shape(**logps)
    chosen_B = log_ratios(policy_chosen_logps_B, reference_chosen_logps_B)
    return chosen_B, log_ratios(policy_rejected_logps_B, reference_rejected_logps_B)


def _pair_output(per_row: torch.Tensor, chosen_B: torch.Tensor, rejected_B: torch.Tensor, beta: float) -> LossOutput:
    accuracy = (chosen_B > rejected_B).to(per_row.dtype).mean()
    return LossOutput(per_row.mean(), per_row, contrast_metrics(chosen_B, rejected_B, accuracy, beta=beta))
