"""Win rate of one set of answers against another, on the same prompts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from rayalign.evaluation.repeats import repeated_mean
from rayalign.records import Metric

Rewards = Mapping[str, Sequence[float | None]]
"""Prompt id -> the reward of each answer, None where no scorer gave one."""


def win_rate(rewards: Rewards, baseline_rewards: Rewards, *, seed: int) -> Metric | None:
    """How often an answer beats a baseline answer to the same prompt: 1 if its reward is higher, 0.5 for a tie.

    Per prompt all pairs are compared; the rate is the mean over prompts, each with the same weight, and its
    interval is over prompts. Missing rewards, and prompts that one side does not have, are left out.

    Returns:
        The rate, with the number of compared pairs as `n`; None if no prompt has a reward on both sides.

    Raises:
        ValueError: a reward is NaN.
    """
    return repeated_win_rate([rewards], [baseline_rewards], seed=seed)


def repeated_win_rate(rewards_R: Sequence[Rewards], baselines_R: Sequence[Rewards], *, seed: int) -> Metric | None:
    """`win_rate` where answers were scored several times: each repeat's rewards are compared with each other.

    Args:
        rewards_R, baselines_R: the rewards of each repeat; as many on both sides.
    """
    both = zip(rewards_R, baselines_R, strict=True)
    shares_R = [_shares(rewards, baseline) for rewards, baseline in both]
    prompts = sorted({prompt for shares in shares_R for prompt in shares})
    if not prompts:
        return None
    values_RN = [[shares[prompt][0] if prompt in shares else None for prompt in prompts] for shares in shares_R]
    pairs = sum(pairs for shares in shares_R for _, pairs in shares.values())
    return repeated_mean(values_RN, prompts, seed=seed, share=True, n=pairs)


def _shares(rewards: Rewards, baseline_rewards: Rewards) -> dict[str, tuple[float, int]]:
    """Prompt id -> share of its pairs that are won, and how many pairs these are."""
    found = {}
    for prompt_id in sorted(rewards.keys() & baseline_rewards.keys()):
        ours, theirs = _present(rewards[prompt_id], prompt_id), _present(baseline_rewards[prompt_id], prompt_id)
        if ours and theirs:
            wins, ties = np.greater.outer(ours, theirs).mean(), np.equal.outer(ours, theirs).mean()
            found[prompt_id] = float(wins + 0.5 * ties), len(ours) * len(theirs)
    return found


def _present(rewards: Sequence[float | None], prompt_id: str) -> list[float]:
    present = [reward for reward in rewards if reward is not None]
    if any(math.isnan(reward) for reward in present):
        raise ValueError(f"a reward of prompt {prompt_id} is NaN: a missing reward is None, never a number")
    return present
