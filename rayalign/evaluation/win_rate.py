"""Win rate of one set of answers against another, on the same prompts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from rayalign.evaluation.statistics import clustered_mean
from rayalign.records import Metric

Rewards = Mapping[str, Sequence[float | None]]
"""Prompt id -> the reward of each answer, None where no scorer gave one."""


def win_rate(rewards: Rewards, baseline_rewards: Rewards, *, seed: int) -> Metric | None:
    """How often an answer beats a baseline answer to the same prompt: 1 if its reward is higher, 0.5 for a tie.

    Per prompt all pairs are compared; the rate is the mean over prompts, each with the same weight, and its
    interval is a bootstrap over prompts. Missing rewards, and prompts that one side does not have, are left out.

    Returns:
        The rate, with the number of compared pairs as `n`; None if no prompt has a reward on both sides.

    Raises:
        ValueError: a reward is NaN.
    """
    prompts, shares, pairs = [], [], 0
    for prompt_id in sorted(rewards.keys() & baseline_rewards.keys()):
        ours, theirs = _present(rewards[prompt_id], prompt_id), _present(baseline_rewards[prompt_id], prompt_id)
        if not ours or not theirs:
            continue
        wins = np.greater.outer(ours, theirs).mean()
        ties = np.equal.outer(ours, theirs).mean()
        prompts.append(prompt_id)
        shares.append(float(wins + 0.5 * ties))
        pairs += len(ours) * len(theirs)
    if not prompts:
        return None
    return dataclasses.replace(clustered_mean(shares, prompts, seed=seed), n=pairs)


def _present(rewards: Sequence[float | None], prompt_id: str) -> list[float]:
    present = [reward for reward in rewards if reward is not None]
    if any(math.isnan(reward) for reward in present):
        raise ValueError(f"a reward of prompt {prompt_id} is NaN: a missing reward is None, never a number")
    return present
