"""What the run trains on against what is true: how far each has risen since round 0, on one scale."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence

from rayalign.evaluation.statistics import clustered_mean
from rayalign.records import MetricDict, ScoredSample


def proxy_gap(
    now: Sequence[ScoredSample],
    first: Sequence[ScoredSample],
    proxies: Mapping[str, float],
    gold: str,
    *,
    seed: int,
) -> dict[str, dict[str, MetricDict]]:
    """Per proxy, its gain, gold's gain and their difference; a proxy whose round 0 has no spread is left out.

    A gain is the change of the mean reward since round 0, in standard deviations of the answers of round 0: rewards of
    different scorers have no common unit. Only prompts with answers of both scorers in both rounds count, each alike.

    Args:
        now, first: the held-out answers of this round and of round 0.
        proxies: scorer -> weight; one of negative weight is to fall.
        gold: the scorer that is true.
    """
    found = {}
    gold_gains = _gains(now, first, gold)
    for proxy, weight in proxies.items():
        gains = _gains(now, first, proxy)
        prompts = sorted(gains.keys() & gold_gains.keys())
        if not prompts:
            continue
        sign = 1.0 if weight > 0 else -1.0
        columns = {
            "proxy": [sign * gains[prompt] for prompt in prompts],
            "gold": [gold_gains[prompt] for prompt in prompts],
            "gap": [sign * gains[prompt] - gold_gains[prompt] for prompt in prompts],
        }
        found[proxy] = {name: clustered_mean(c, prompts, seed=seed).to_dict() for name, c in columns.items()}
    return found


def _gains(now: Sequence[ScoredSample], first: Sequence[ScoredSample], scorer: str) -> dict[str, float]:
    after, before = _rewards(now, scorer), _rewards(first, scorer)
    every = [reward for rewards in before.values() for reward in rewards]
    spread = statistics.pstdev(every) if every else 0.0
    if spread == 0:
        return {}
    return {
        prompt: (statistics.fmean(after[prompt]) - statistics.fmean(before[prompt])) / spread
        for prompt in after.keys() & before.keys()
    }


def _rewards(rows: Sequence[ScoredSample], scorer: str) -> dict[str, list[float]]:
    found: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        for score in row.scores:
            if score.scorer == scorer and score.status == "ok" and score.reward is not None:
                found[row.sample.prompt_id].append(score.reward)
    return found
