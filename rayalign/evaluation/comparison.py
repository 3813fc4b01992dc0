"""What the scorers of a round have in common: with each other, with gold, and with the length of the answers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from typing import TypedDict

from rayalign.evaluation.agreement import (
    Rewards,
    correlations,
    length_correlation,
    ordered_alike,
    pair_accuracy,
    verdict_agreement,
)
from rayalign.evaluation.canaries import COMBINED
from rayalign.records import Metric, MetricDict, Score, ScoredSample


class Comparison(TypedDict):
    """What `compare_scorers` finds, as its docstring says."""

    pairs: list[dict[str, str | MetricDict]]
    gold: dict[str, dict[str, MetricDict]]
    length: dict[str, MetricDict]


def compare_scorers(
    rows: Sequence[ScoredSample], scorers: Sequence[str], gold: str | None, verifiers: Collection[str], *, seed: int
) -> Comparison:
    """Rewards and verdicts of the same answers, side by side; every value is a metric with its interval.

    * `pairs`: for every two scorers that give rewards `pearson`, `spearman`, and `alike`, the share of pairs of answers
      to one prompt that both order and order alike.
    * `gold`: per other scorer, the `accuracy` of its order of such pairs, and of its verdicts `agreement` and `kappa`.
    * `length`: per scorer, and for the combined reward of several, the correlation with the number of tokens within
      prompts.

    Args:
        gold: the scorer that is true; None where there is none.
        verifiers: scorers whose reward of 1 says that an answer is right.
    """
    ids = [row.sample.prompt_id for row in rows]
    scores = {name: [_score_of(row, name) for row in rows] for name in scorers}
    columns = {name: [score.reward if score else None for score in column] for name, column in scores.items()}
    rewards = {name: column for name, column in columns.items() if any(reward is not None for reward in column)}
    lengths = [len(row.sample.token_ids) for row in rows]
    pairs: list[dict[str, str | MetricDict]] = []
    for a, b in combinations(rewards, 2):
        alike = ordered_alike(ids, rewards[a], rewards[b], seed=seed)
        pairs.append(
            {"a": a, "b": b, **_plain(correlations(ids, rewards[a], rewards[b], seed=seed) | {"alike": alike})}
        )
    against = {}
    if gold is not None:
        right = _right(scores[gold], gold in verifiers)
        for name in scorers:
            if name != gold:
                accuracy = pair_accuracy(ids, columns[name], columns[gold], seed=seed)
                verdicts = verdict_agreement(ids, [_verdict(score) for score in scores[name]], right, seed=seed)
                against[name] = _plain({"accuracy": accuracy, **verdicts})
    combined: dict[str, Rewards] = {COMBINED: [row.reward for row in rows]} if len(scorers) > 1 else {}
    length = {name: length_correlation(ids, one, lengths, seed=seed) for name, one in (rewards | combined).items()}
    return {"pairs": pairs, "gold": against, "length": _plain(length)}


def _score_of(row: ScoredSample, scorer: str) -> Score | None:
    return next((score for score in row.scores if score.scorer == scorer and score.status == "ok"), None)


def _verdict(score: Score | None) -> bool | None:
    return None if score is None or score.verdict is None else score.verdict == "perfect"


def _right(scores: Sequence[Score | None], verifier: bool) -> list[bool | None]:
    """What gold says of each answer: for a verifier whether its reward is 1, else its verdict."""
    if not verifier:
        return [_verdict(score) for score in scores]
    return [None if score is None or score.reward is None else score.reward == 1 for score in scores]


def _plain(metrics: Mapping[str, Metric | None]) -> dict[str, MetricDict]:
    return {name: metric.to_dict() for name, metric in metrics.items() if metric is not None}
