"""From scored samples to training groups: pure functions of one prompt's answers."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from rayalign.config import GroupsSection
from rayalign.records import Prompt, ScoredSample, TrainingGroup


def build_group(prompt: Prompt, rows: Sequence[ScoredSample], section: GroupsSection) -> TrainingGroup:
    """One prompt's training group. Answers without a reward are left out; a group that teaches nothing is dropped.

    With `deduplicate`, answers of the same tokens become one (the first); where their rewards differ, their mean.
    """
    usable = [row for row in rows if row.reward is not None and row.sample.token_ids]
    merged = _merge_duplicates(usable) if section.deduplicate else [(row, row.reward) for row in usable]
    rewards = [float(reward) for _, reward in merged if reward is not None]
    return TrainingGroup(
        prompt_id=prompt.id,
        prompt_token_ids=prompt.token_ids,
        response_indices=[row.sample.index for row, _ in merged],
        response_token_ids=[row.sample.token_ids for row, _ in merged],
        response_logprobs=[row.sample.logprobs for row, _ in merged],
        rewards=normalise(rewards, section.normalise),
        drop_reason=_drop_reason(rewards, len(usable), section),
    )


def _merge_duplicates(rows: Sequence[ScoredSample]) -> list[tuple[ScoredSample, float]]:
    same: dict[tuple[int, ...], list[ScoredSample]] = {}
    for row in rows:
        same.setdefault(tuple(row.sample.token_ids), []).append(row)
    return [(twins[0], statistics.mean(twin.reward or 0.0 for twin in twins)) for twins in same.values()]


def _drop_reason(rewards: Sequence[float], usable: int, section: GroupsSection) -> str | None:
    if usable == 0:
        return "no_reward"
    if len(rewards) == 1:
        return "one_response" if usable == 1 else "all_duplicates"
    if section.drop_equal_rewards and len(set(rewards)) == 1:
        return "equal_rewards"
    return None


def normalise(rewards: Sequence[float], mode: str) -> list[float]:
    """Rewards of one prompt: as they are, minus their mean, or also divided by their standard deviation.

    zscore of equal rewards is all zeros.
    """
    if mode == "none" or not rewards:
        return list(rewards)
    # Exact: sum / length of equal rewards may miss them by a rounding, which zscore would blow up to 1.
    mean = statistics.mean(rewards)
    centred = [reward - mean for reward in rewards]
    if mode == "center":
        return centred
    deviation = math.sqrt(sum(c * c for c in centred) / len(centred))
    return [c / deviation if deviation > 0 else 0.0 for c in centred]
