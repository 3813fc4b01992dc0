"""From scored samples to training groups: pure functions of one prompt's answers."""

from __future__ import annotations

import hashlib
import heapq
import math
import statistics
from collections.abc import Callable, Collection, Iterable, Sequence

from rayalign.config.data import GroupsSection
from rayalign.records import Prompt, Score, ScoredSample, TrainingGroup

REWARDS = frozenset({"rewards"})


def build_group(
    prompt: Prompt,
    rows: Sequence[ScoredSample],
    section: GroupsSection,
    needs: Collection[str] = REWARDS,
    keep_positive: Callable[[ScoredSample], bool] = lambda row: True,
) -> TrainingGroup:
    """One prompt's training group. Answers that no objective can use are left out; a group without use is dropped.

    With `deduplicate`, answers of the same tokens become one (the first); where their rewards differ, their mean.

    Args:
        needs: what the run's objectives learn from: rewards, judgments, targets.
        keep_positive: False sets an answer without fault aside, so that no objective learns from its judgment.
    """
    judged = "judgments" in needs
    verdicts = {row.sample.index: _verdict(row, keep_positive) if judged else None for row in rows}

    def has_use(row: ScoredSample) -> bool:
        rewarded = row.reward is not None and "rewards" in needs
        return rewarded or verdicts[row.sample.index] is not None or ("targets" in needs and prompt.target is not None)

    usable = [row for row in rows if row.sample.token_ids and has_use(row)]
    merged = _merge_duplicates(usable) if section.deduplicate else [(row, row.reward) for row in usable]
    kept = [row for row, _ in merged]
    rewards = [reward for _, reward in merged]
    return TrainingGroup(
        prompt_id=prompt.id,
        prompt_token_ids=prompt.token_ids,
        response_indices=[row.sample.index for row in kept],
        response_token_ids=[row.sample.token_ids for row in kept],
        response_logprobs=[row.sample.logprobs for row in kept],
        rewards=normalise(rewards, section.normalise),
        judgments=[_judgment(row) for row in kept] if judged else [],
        verdicts=[verdicts[row.sample.index] for row in kept] if judged else [],
        drop_reason=_drop_reason(prompt, rewards, usable, rows, section, needs),
    )


def _verdict(row: ScoredSample, keep_positive: Callable[[ScoredSample], bool]) -> str | None:
    score = judged_score(row)
    if score is None or (score.verdict == "perfect" and not keep_positive(row)):
        return None
    return score.verdict


def judged_score(row: ScoredSample) -> Score | None:
    """The score that holds an answer's verdict; None where no judge gave one."""
    return next((score for score in row.scores if score.status == "ok" and score.verdict is not None), None)


def _judgment(row: ScoredSample) -> str | None:
    score = judged_score(row)
    return None if score is None else score.judgment


def _merge_duplicates(rows: Sequence[ScoredSample]) -> list[tuple[ScoredSample, float | None]]:
    same: dict[tuple[int, ...], list[ScoredSample]] = {}
    for row in rows:
        same.setdefault(tuple(row.sample.token_ids), []).append(row)
    merged = []
    for twins in same.values():
        rewards = [twin.reward for twin in twins if twin.reward is not None]
        merged.append((twins[0], statistics.mean(rewards) if rewards else None))
    return merged


def _drop_reason(
    prompt: Prompt,
    rewards: Sequence[float | None],
    usable: Sequence[ScoredSample],
    rows: Sequence[ScoredSample],
    section: GroupsSection,
    needs: Collection[str],
) -> str | None:
    if not usable:
        return "no_target" if "targets" in needs and prompt.target is None else _no_use(rows, needs)
    if set(needs) != REWARDS:
        return None
    if len(rewards) == 1:
        return "one_response" if len(usable) == 1 else "all_duplicates"
    if section.drop_equal_rewards and len(set(rewards)) == 1:
        return "equal_rewards"
    return None


def _no_use(rows: Sequence[ScoredSample], needs: Collection[str]) -> str:
    if "rewards" in needs:
        return "no_reward"
    if "judgments" not in needs:
        return "no_response"
    judged = any(row.sample.token_ids and judged_score(row) is not None for row in rows)
    return "only_positives_set_aside" if judged else "no_judgment"


def normalise(rewards: Sequence[float | None], mode: str) -> list[float | None]:
    """Rewards of one prompt: as they are, minus their mean, or also divided by their standard deviation.

    zscore of equal rewards is all zeros. A missing reward stays missing and counts in neither.
    """
    known = [reward for reward in rewards if reward is not None]
    if mode == "none" or not known:
        return list(rewards)
    # Exact: sum / length of equal rewards may miss them by a rounding, which zscore would blow up to 1.
    mean = statistics.mean(known)
    deviation = math.sqrt(sum((reward - mean) ** 2 for reward in known) / len(known))
    scale = 1.0 if mode == "center" else 1 / deviation if deviation > 0 else 0.0
    return [None if reward is None else (reward - mean) * scale for reward in rewards]


def positive_key(seed: int, round_index: int, row: ScoredSample) -> int:
    """The place of an answer without fault in the round's random order, the same in every process."""
    name = f"positive:{seed}:{round_index}:{row.sample.prompt_id}:{row.sample.index}"
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])


def positive_limit(keys: Iterable[int], negatives: int, ratio: float) -> int | None:
    """The largest key that is kept when positives are down-sampled to `ratio` x negatives; -1 where none is.

    None keeps all: the ratio is negative (off), or there are no more positives than that.
    """
    if ratio < 0:
        return None
    keep = int(negatives * ratio)
    smallest = heapq.nsmallest(keep + 1, keys)
    if len(smallest) <= keep:
        return None
    return smallest[keep - 1] if keep else -1
