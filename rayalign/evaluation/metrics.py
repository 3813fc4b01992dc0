"""The metrics of one evaluation: scored held-out answers in, named values with 95 % intervals out.

A metric that nothing was measured for is left out of the result; a missing reward stays missing, never 0.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from rayalign.evaluation.statistics import clustered_mean
from rayalign.evaluation.win_rate import win_rate
from rayalign.records import Metric, Sample, ScoredSample

Measured = list[tuple[str, float]]
"""(prompt id, value) of every answer that a metric is defined for."""


def measure(
    rows: Sequence[ScoredSample],
    kl_sums: Mapping[tuple[str, int], float] | None,
    baselines: Mapping[str, Sequence[ScoredSample]],
    rule_scorers: Collection[str],
    seed: int,
) -> dict[str, Metric]:
    """Every metric of DESIGN section 6 that these answers define.

    Args:
        rows: one row per held-out answer, with its scores.
        kl_sums: (prompt id, answer index) -> sum over tokens of log π - log base (nats), for all or some answers.
        baselines: name (`round_0`, `previous`) -> the baseline's rows; each gives `win_rate/<name>`.
        rule_scorers: names of the scorers whose score 1 means that the answer passes.

    Raises:
        ValueError: no rows, an answer that occurs twice, a KL of an answer that is not in `rows`, or a NaN.
    """
    _check(rows, kl_sums or {})
    measured: dict[str, Measured] = {
        "mean_reward": [(row.sample.prompt_id, row.reward) for row in rows if row.reward is not None],
        **_rewards_by_scorer(rows),
        "pass_rate": _passes(rows, rule_scorers),
        "kl_base": [(prompt, kl) for (prompt, _), kl in sorted((kl_sums or {}).items())],
        "length_tokens": [(row.sample.prompt_id, float(len(row.sample.token_ids))) for row in rows],
        "truncation_rate": [(row.sample.prompt_id, float(row.sample.finish_reason == "length")) for row in rows],
        "duplicate_rate": _duplicates(rows),
    }
    metrics: dict[str, Metric | None] = {name: _mean(values, seed) for name, values in measured.items()}
    metrics["distinct_2"] = distinct_2([row.sample for row in rows], seed=seed)
    for name, baseline in baselines.items():
        metrics[f"win_rate/{name}"] = win_rate(_rewards(rows), _rewards(baseline), seed=seed)
    return {name: metric for name, metric in metrics.items() if metric is not None}


def distinct_2(samples: Sequence[Sample], *, seed: int) -> Metric | None:
    """Distinct token bigrams over all token bigrams of all answers; None if no answer has two tokens.

    Drawing a prompt twice adds bigrams but no distinct ones, so plain resampling would put the whole interval
    below the value. Resampled instead are the jackknife pseudo-values, one per prompt (Efron & Tibshirani 1993,
    section 11.5), and the interval is moved to where the value is and cut to [0, 1].
    """
    bigrams: dict[str, Counter[tuple[int, int]]] = defaultdict(Counter)
    for sample in samples:
        bigrams[sample.prompt_id].update(zip(sample.token_ids[:-1], sample.token_ids[1:], strict=True))
    sizes = {prompt: counts.total() for prompt, counts in bigrams.items() if counts}
    total = sum(sizes.values())
    if total == 0:
        return None
    prompts_with = Counter(bigram for counts in bigrams.values() for bigram in counts)
    value = len(prompts_with) / total
    if len(sizes) == 1:
        return Metric(value, len(samples), (value, value))
    pseudo = {}
    for prompt, size in sizes.items():
        only_here = sum(prompts_with[bigram] == 1 for bigram in bigrams[prompt])
        without = (len(prompts_with) - only_here) / (total - size)
        pseudo[prompt] = len(sizes) * value - (len(sizes) - 1) * without
    centre = clustered_mean(list(pseudo.values()), list(pseudo), seed=seed)
    low, high = (float(np.clip(bound - centre.value + value, 0.0, 1.0)) for bound in centre.ci95)
    return Metric(value, len(samples), (low, high))


def _check(rows: Sequence[ScoredSample], kl_sums: Mapping[tuple[str, int], float]) -> None:
    if not rows:
        raise ValueError("no answers to measure")
    keys = Counter((row.sample.prompt_id, row.sample.index) for row in rows)
    twice = next((key for key, count in keys.items() if count > 1), None)
    if twice:
        raise ValueError(f"answer {twice[1]} of prompt {twice[0]} occurs twice; it would count twice in every mean")
    foreign = next((key for key in kl_sums if key not in keys), None)
    if foreign:
        raise ValueError(f"a KL of answer {foreign[1]} of prompt {foreign[0]}, which is not among the rows")


def _mean(measured: Measured, seed: int) -> Metric | None:
    if not measured:
        return None
    return clustered_mean([value for _, value in measured], [prompt for prompt, _ in measured], seed=seed)


def _rewards_by_scorer(rows: Iterable[ScoredSample]) -> dict[str, Measured]:
    found: dict[str, Measured] = defaultdict(list)
    for row in rows:
        for score in row.scores:
            if score.status == "ok" and score.reward is not None:
                found[f"mean_reward/{score.scorer}"].append((row.sample.prompt_id, score.reward))
    return dict(sorted(found.items()))


def _passes(rows: Iterable[ScoredSample], rule_scorers: Collection[str]) -> Measured:
    """1 where every rule score is exactly 1, else 0.

    An answer that a rule failed on (error, timeout), or that no rule gave a number for, is left out: whether it
    passes is not known. A rule that abstains does not apply and has no say.
    """
    measured: Measured = []
    for row in rows:
        scores = [score for score in row.scores if score.scorer in rule_scorers and score.status != "abstain"]
        rewards = [score.reward for score in scores if score.status == "ok" and score.reward is not None]
        if rewards and len(rewards) == len(scores):
            if any(math.isnan(reward) for reward in rewards):
                raise ValueError(f"a rule score of prompt {row.sample.prompt_id} is NaN: a missing score is None")
            measured.append((row.sample.prompt_id, float(all(reward == 1 for reward in rewards))))
    return measured


def _duplicates(rows: Iterable[ScoredSample]) -> Measured:
    """1 for every answer whose text an earlier answer to the same prompt already has."""
    seen: set[tuple[str, str]] = set()
    measured: Measured = []
    for row in rows:
        key = (row.sample.prompt_id, row.sample.text)
        measured.append((row.sample.prompt_id, float(key in seen)))
        seen.add(key)
    return measured


def _rewards(rows: Iterable[ScoredSample]) -> dict[str, list[float | None]]:
    rewards: dict[str, list[float | None]] = defaultdict(list)
    for row in rows:
        rewards[row.sample.prompt_id].append(row.reward)
    return dict(rewards)
