"""From scored samples to training groups: pure functions of one prompt's answers."""

from __future__ import annotations

import hashlib
import heapq
import math
import statistics
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from rayalign.config.data import GroupsSection
from rayalign.records import Prompt, Score, ScoredSample, TrainingGroup

REWARDS = frozenset({"rewards"})


@dataclass(frozen=True, slots=True)
class Candidate:
    """An answer that may enter a group, with what an objective can learn from it."""

    row: ScoredSample
    reward: float | None
    """Null where it is missing; of equal answers, their mean."""
    judgment: str | None = None
    verdict: str | None = None
    """Null where no objective reads judgments, no judge gave one, or the answer was set aside."""


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
    judged, has_target = "judgments" in needs, "targets" in needs and prompt.target is not None
    candidates = [_candidate(row, judged, keep_positive) for row in rows if row.sample.token_ids]
    usable = [one for one in candidates if has_target or _has_use(one, needs)]
    kept = _merge_duplicates(usable) if section.deduplicate else usable
    rewards = [one.reward for one in kept]
    return TrainingGroup(
        prompt_id=prompt.id,
        prompt_token_ids=prompt.token_ids,
        response_indices=[one.row.sample.index for one in kept],
        response_token_ids=[one.row.sample.token_ids for one in kept],
        response_logprobs=[one.row.sample.logprobs for one in kept],
        rewards=normalise(rewards, section.normalise),
        judgments=[one.judgment for one in kept] if judged else [],
        verdicts=[one.verdict for one in kept] if judged else [],
        drop_reason=_no_use(prompt, rows, needs) if not usable else _too_few(usable, rewards, section, needs),
    )


def _candidate(row: ScoredSample, judged: bool, keep_positive: Callable[[ScoredSample], bool]) -> Candidate:
    score = judged_score(row) if judged else None
    if score is None:
        return Candidate(row, row.reward)
    set_aside = score.verdict == "perfect" and not keep_positive(row)
    return Candidate(row, row.reward, score.judgment, None if set_aside else score.verdict)


def _has_use(candidate: Candidate, needs: Collection[str]) -> bool:
    return candidate.verdict is not None or (candidate.reward is not None and "rewards" in needs)


def judged_score(row: ScoredSample) -> Score | None:
    """The score that holds an answer's verdict; None where no judge gave one."""
    return next((score for score in row.scores if score.status == "ok" and score.verdict is not None), None)


def _merge_duplicates(candidates: Sequence[Candidate]) -> list[Candidate]:
    same: dict[tuple[int, ...], list[Candidate]] = {}
    for one in candidates:
        same.setdefault(tuple(one.row.sample.token_ids), []).append(one)
    merged = []
    for first, *twins in same.values():
        rewards = [one.reward for one in (first, *twins) if one.reward is not None]
        merged.append(replace(first, reward=statistics.mean(rewards) if rewards else None))
    return merged


def _too_few(
    usable: Sequence[Candidate], rewards: Sequence[float | None], section: GroupsSection, needs: Collection[str]
) -> str | None:
    """Why the answers that are left, with these rewards, cannot be compared; None where they can."""
    if set(needs) != REWARDS:
        return None
    if len(rewards) == 1:
        return "one_response" if len(usable) == 1 else "all_duplicates"
    if section.drop_equal_rewards and len(set(rewards)) == 1:
        return "equal_rewards"
    return None


def _no_use(prompt: Prompt, rows: Sequence[ScoredSample], needs: Collection[str]) -> str:
    """Why no answer can be used."""
    if "targets" in needs and prompt.target is None:
        return "no_target"
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
