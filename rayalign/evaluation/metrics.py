"""The metrics of one evaluation: scored held-out answers in, named values with 95 % intervals out.

A metric that nothing was measured for is left out of the result; a missing reward stays missing, never 0.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from rayalign.evaluation.equal_length import equal_length_win_rate
from rayalign.evaluation.paired import PromptMeans
from rayalign.evaluation.repeats import Values, repeated_mean, reward_of
from rayalign.evaluation.statistics import clustered_mean
from rayalign.evaluation.win_rate import repeated_win_rate
from rayalign.records import Metric, Sample, ScoredSample

Measured = list[tuple[str, float]]
"""(prompt id, value) of every answer that a metric is defined for."""
Repeats = Sequence[Sequence[ScoredSample]]
"""The same rows, scored again; one list per repeat."""


SHARES = ("pass_rate", "truncation_rate", "duplicate_rate")
"""Metrics whose values are parts of 1."""


def measure(
    rows: Sequence[ScoredSample],
    kl_sums: Mapping[tuple[str, int], float] | None,
    baselines: Mapping[str, Sequence[ScoredSample]],
    rule_scorers: Collection[str],
    seed: int,
    repeats: Mapping[str, Repeats] | None = None,
) -> dict[str, Metric]:
    """Every metric of DESIGN section 6 that these answers define.

    Args:
        rows: one row per held-out answer, with its scores.
        kl_sums: (prompt id, answer index) -> sum over tokens of log π - log base (nats), for all or some answers.
        baselines: name (`round_0`, `previous`) -> the baseline's rows; each gives `win_rate/<name>` and
            `equal_length_win_rate/<name>`.
        rule_scorers: names of the scorers whose score 1 means that the answer passes.
        repeats: the rows scored again, by the name of the baseline; under "" the round's own.

    Raises:
        ValueError: no rows, an answer that occurs twice, a KL of an answer that is not in `rows`, or a NaN.
    """
    _check(rows, kl_sums or {})
    rows_R = [rows, *(repeats or {}).get("", [])]
    answers = [row for row in rows if row.sample.finish_reason != "failed"]
    measured: dict[str, Measured] = {
        "pass_rate": _passes(rows, rule_scorers),
        "kl_base": [(prompt, kl) for (prompt, _), kl in sorted((kl_sums or {}).items())],
        "length_tokens": [(row.sample.prompt_id, float(len(row.sample.token_ids))) for row in answers],
        "truncation_rate": [(row.sample.prompt_id, float(row.sample.finish_reason == "length")) for row in answers],
        "duplicate_rate": _duplicates(answers),
    }
    metrics: dict[str, Metric | None] = _mean_rewards(rows_R, seed)
    metrics |= {name: _mean(values, seed, share=name in SHARES) for name, values in measured.items()}
    metrics["distinct_2"] = distinct_2([row.sample for row in rows], seed=seed)
    for name, baseline in baselines.items():
        theirs_R = _as_many([baseline, *(repeats or {}).get(name, [])], len(rows_R))
        metrics[f"win_rate/{name}"] = repeated_win_rate(
            [_rewards(one) for one in rows_R], [_rewards(one) for one in theirs_R], seed=seed
        )
        metrics[f"equal_length_win_rate/{name}"] = equal_length_win_rate(
            [_lengths(one) for one in rows_R], [_lengths(one) for one in theirs_R]
        )
    return {name: metric for name, metric in metrics.items() if metric is not None}


def prompt_means(rows_R: Sequence[Sequence[ScoredSample]], metric: str, rule_scorers: Collection[str]) -> PromptMeans:
    """The mean over each prompt's answers, and over repeats, of `mean_reward`, `mean_reward/<scorer>` or `pass_rate`.

    Args:
        rows_R: the rows, and the same rows scored again.

    Raises:
        ValueError: another metric.
    """
    if metric == "pass_rate":
        measured = _passes(rows_R[0], rule_scorers)
    elif metric == "mean_reward":
        measured = [(row.sample.prompt_id, row.reward) for rows in rows_R for row in rows if row.reward is not None]
    elif metric.startswith("mean_reward/"):
        measured = [pair for rows in rows_R for pair in _rewards_by_scorer(rows).get(metric, [])]
    else:
        raise ValueError(f"{metric} has no value per answer that rounds could be compared by")
    values: dict[str, list[float]] = defaultdict(list)
    for prompt_id, value in measured:
        values[prompt_id].append(value)
    return {prompt_id: math.fsum(some) / len(some) for prompt_id, some in values.items()}


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


def _mean(measured: Measured, seed: int, *, share: bool) -> Metric | None:
    if not measured:
        return None
    return clustered_mean([value for _, value in measured], [prompt for prompt, _ in measured], seed=seed, share=share)


def _mean_rewards(rows_R: Sequence[Sequence[ScoredSample]], seed: int) -> dict[str, Metric | None]:
    """`mean_reward`, and one per scorer; rewards that are all 0 or 1 count as shares."""
    prompts = [row.sample.prompt_id for row in rows_R[0]]
    names = sorted({score.scorer for row in rows_R[0] for score in row.scores})
    columns: dict[str, list[Values]] = {"mean_reward": [[row.reward for row in rows] for rows in rows_R]}
    columns |= {f"mean_reward/{name}": [[reward_of(row, name) for row in rows] for rows in rows_R] for name in names}
    metrics: dict[str, Metric | None] = {}
    for name, values_RN in columns.items():
        known = {value for column in values_RN for value in column if value is not None}
        if known:
            metrics[name] = repeated_mean(values_RN, prompts, seed=seed, share=known <= {0.0, 1.0})
    return metrics


def _as_many(rows_R: Sequence[Sequence[ScoredSample]], count: int) -> list[Sequence[ScoredSample]]:
    """`count` repeats of a baseline that may have been scored fewer or more times."""
    return [rows_R[place % len(rows_R)] for place in range(count)]


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


def _lengths(rows: Iterable[ScoredSample]) -> dict[str, list[tuple[float | None, int]]]:
    found: dict[str, list[tuple[float | None, int]]] = defaultdict(list)
    for row in rows:
        found[row.sample.prompt_id].append((row.reward, len(row.sample.token_ids)))
    return dict(found)


def _rewards(rows: Iterable[ScoredSample]) -> dict[str, list[float | None]]:
    rewards: dict[str, list[float | None]] = defaultdict(list)
    for row in rows:
        rewards[row.sample.prompt_id].append(row.reward)
    return dict(rewards)
