"""What the losses that contrast responses with each other share: log-ratios and their metrics."""

from __future__ import annotations

import torch


def log_ratios(
    policy_logps: torch.Tensor, reference_logps: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """log pi(y|x) - log mu(y|x), nats; 0 where the mask is False, whatever stands there (NaN too), with gradient 0."""
    if mask is None:
        return policy_logps - reference_logps
    zeros = torch.zeros_like(policy_logps)
    # where, not multiplication: 0 * NaN is NaN, in the gradient too.
    return torch.where(mask, policy_logps, zeros) - torch.where(mask, reference_logps, zeros)


@torch.no_grad()
def contrast_metrics(
    preferred_G: torch.Tensor,
    other_G: torch.Tensor,
    accuracy: torch.Tensor,
    *,
    beta: float,
    names: tuple[str, str] = ("chosen", "rejected"),
) -> dict[str, torch.Tensor]:
    """Log-ratios (nats) of the preferred and the other response, and the implicit rewards, beta times as large.

    Args:
        preferred_G: log-ratio of each group's preferred response.
        other_G: the same of what it is compared with.
        accuracy: scalar, how often the preferred one has the larger log-ratio.
        names: what the two are called.
    """
    preferred, other = preferred_G.mean(), other_G.mean()
    return {
        f"logratio/{names[0]}": preferred,
        f"logratio/{names[1]}": other,
        f"implicit_reward/{names[0]}": beta * preferred,
        f"implicit_reward/{names[1]}": beta * other,
        "implicit_reward/margin": beta * (preferred_G - other_G).mean(),
        "implicit_reward/accuracy": accuracy,
    }
