"""One optimizer step, in plain torch: forward, loss, backward, and the checks before the update.

The same code runs under a DeepSpeed engine (`actors.learner`) and under plain torch (tests, benchmarks): only
`backward` differs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from rayalign.config import InfoNCAObjective, NCAObjective, TrainingSection, value_at
from rayalign.learning.objective import objective_losses
from rayalign.learning.packing import collate, pad_groups, split_per_row, sum_per_row
from rayalign.records import TrainingGroup

PolicyForward = Callable[..., torch.Tensor]


@dataclass(frozen=True, slots=True)
class StepContext:
    """What stays the same over a round."""

    objectives: Sequence[NCAObjective | InfoNCAObjective]
    round_index: int
    device: torch.device | str = "cpu"


def rows_of(group: TrainingGroup) -> list[tuple[list[int], list[int]]]:
    return [(group.prompt_token_ids, response) for response in group.response_token_ids]


def group_tokens(prompt_tokens: int, response_tokens: Sequence[int]) -> int:
    """Tokens of a group in one forward pass: every response with its own copy of the prompt, padded to the longest."""
    return len(response_tokens) * (prompt_tokens + max(response_tokens, default=0))


def learning_rate(training: TrainingSection, round_index: int, step: int, steps: int) -> float:
    """Learning rate of one step: the config's value, decayed per round, shaped over the round's steps.

    Linear and cosine start at the full rate (after the warm-up) and reach zero after the last step.
    """
    schedule = training.schedule
    peak = value_at(training.learning_rate, round_index) * schedule.round_decay ** (round_index - 1)
    warmup = math.ceil(round(schedule.warmup * steps, 6))
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    shape = {"linear": 1 - progress, "cosine": (1 + math.cos(math.pi * progress)) / 2, "constant": 1.0}
    return peak * shape[schedule.type]


@torch.no_grad()
def token_logps_of(
    policy: PolicyForward,
    rows: Sequence[tuple[list[int], list[int]]],
    device: torch.device | str,
    tokens_per_micro_batch: int,
) -> list[list[float]]:
    """Token log-probabilities of each row, in order, computed in micro-batches of rows of similar length."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]) + len(rows[i][1]))
    results: list[list[float]] = [[] for _ in rows]
    start = 0
    while start < len(order):
        end = start + 1
        while end < len(order) and (end + 1 - start) * sum(map(len, rows[order[end]])) <= tokens_per_micro_batch:
            end += 1
        chosen = order[start:end]
        batch = collate([rows[i] for i in chosen]).to(device)
        for i, logps in zip(chosen, split_per_row(policy(batch), batch), strict=True):
            results[i] = logps
        start = end
    return results


def micro_batch_loss(
    policy: PolicyForward,
    groups: Sequence[TrainingGroup],
    reference_logps: Sequence[torch.Tensor],
    context: StepContext,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """([G] loss of each group of a micro-batch, metrics as means over its groups).

    Args:
        reference_logps: for each group, [K] summed reference log-probabilities.
    """
    batch = collate([row for group in groups for row in rows_of(group)]).to(context.device)
    sizes = [len(group.response_token_ids) for group in groups]
    policy_logps_GK, mask_GK = pad_groups(sum_per_row(policy(batch), batch), sizes)
    reference_logps_GK, _ = pad_groups(torch.cat(list(reference_logps)).to(policy_logps_GK), sizes)
    rewards = torch.tensor([reward for group in groups for reward in group.rewards], dtype=torch.float64)
    rewards_GK, _ = pad_groups(rewards.to(context.device), sizes)
    return objective_losses(
        context.objectives, context.round_index, policy_logps_GK, reference_logps_GK, rewards_GK, mask_GK
    )


def empty_loss(policy: torch.nn.Module) -> torch.Tensor:
    """A loss of zero that still touches every trainable parameter: the backward of an empty micro-batch."""
    return torch.stack([p.sum() * 0.0 for p in policy.parameters() if p.requires_grad]).sum()


def all_finite(loss: float, parameters: Sequence[torch.nn.Parameter]) -> bool:
    """Whether this rank's loss and accumulated gradients may be stepped on."""
    grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
    return math.isfinite(loss) and all(bool(torch.isfinite(grad).all()) for grad in grads)
