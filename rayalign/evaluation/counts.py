"""What the scorers did, counted from the stored scores: failures and their reasons, truncation, flips, cost, time."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from rayalign.evaluation.statistics import clustered_statistic
from rayalign.records import Score, ScoredSample

MOST_REASONS = 20
LONGEST_REASON = 100
OTHER = "other reasons"
UNSCORED = "unscored"
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_NUMBER = re.compile(r"(?<!HTTP )\b[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?\b")


def count_scores(rows: Sequence[ScoredSample], scorers: Sequence[str], *, seed: int) -> dict[str, dict[str, Any]]:
    """Per scorer, over all `rows`:

    * `status`: answers per status, `unscored` where there is no score of it; they add up to `answers`.
    * `reasons`: of the answers that are not `ok`, per status and `plain_reason`; they add up to those statuses.
    * `aspects`: sums of what the scores carry (`truncated`, `comparisons`, `flips`, `cached` ...).
    * `flip_rate`: of a judge that compares, the share of comparisons whose two orders disagree.
    * `cost` (US dollars), and `latency_s`: mean and 95th percentile over the answers that took any time.
    """
    return {name: _count(rows, [_score_of(row, name) for row in rows], seed) for name in scorers}


def plain_reason(reason: str | None) -> str:
    """A reason without what differs from answer to answer: numbers but for HTTP codes, and what is quoted.

    >>> plain_reason("no reply within 60 s"), plain_reason("HTTP 503: 'busy, try in 3 s'")
    ('no reply within # s', 'HTTP 503: …')
    """
    text = _NUMBER.sub("#", _QUOTED.sub("…", " ".join((reason or "no reason given").split())))
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}…"


def _score_of(row: ScoredSample, scorer: str) -> Score | None:
    return next((score for score in row.scores if score.scorer == scorer), None)


def _count(rows: Sequence[ScoredSample], scores: Sequence[Score | None], seed: int) -> dict[str, Any]:
    known = [score for score in scores if score is not None]
    aspects: dict[str, float] = defaultdict(float)
    for score in known:
        for name, value in score.aspects.items():
            aspects[name] += value
    reasons = Counter(f"{score.status}: {plain_reason(score.reason)}" for score in known if score.status != "ok")
    counted: dict[str, Any] = {
        "answers": len(scores),
        "status": dict(sorted(Counter(UNSCORED if score is None else score.status for score in scores).items())),
        "reasons": _most(reasons),
        "aspects": dict(sorted(aspects.items())),
        "cost": math.fsum(score.cost for score in known),
    }
    took = [score.latency_s for score in known if score.latency_s > 0]
    if took:
        counted["latency_s"] = {"mean": math.fsum(took) / len(took), "p95": float(np.quantile(took, 0.95))}
    if aspects.get("comparisons"):
        counted["flip_rate"] = _flip_rate(rows, scores, int(aspects["comparisons"]), seed)
    return counted


def _most(reasons: Counter[str]) -> dict[str, int]:
    """The most frequent ones, the first in the alphabet among equals; the rest as one."""
    ranked = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    rest = sum(count for _, count in ranked[MOST_REASONS:])
    return dict(ranked[:MOST_REASONS]) | ({OTHER: rest} if rest else {})


def _flip_rate(
    rows: Sequence[ScoredSample], scores: Sequence[Score | None], n: int, seed: int
) -> dict[str, Any] | None:
    """Each comparison stands in the scores of both its answers, and so does its flip: the ratio is that of either."""
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for row, score in zip(rows, scores, strict=True):
        if score is not None:
            sums[row.sample.prompt_id][0] += score.aspects.get("flips", 0.0)
            sums[row.sample.prompt_id][1] += score.aspects.get("comparisons", 0.0)
    judged = np.array([sums[prompt_id] for prompt_id in sorted(sums) if sums[prompt_id][1]])
    metric = clustered_statistic(judged, lambda s: s[..., 0] / s[..., 1], n=n // 2, seed=seed)
    return None if metric is None else metric.to_dict()
