"""What the scorers did, counted from the stored scores: failures and their reasons, truncation, flips, cost, time."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NotRequired, TypedDict

import numpy as np

from rayalign.evaluation.canaries import score_value
from rayalign.evaluation.statistics import FloatArray, clustered_statistic
from rayalign.records import MetricDict, Sample, Score, ScoredSample

MOST_REASONS = 20
LONGEST_REASON = 100
HANDFUL = 8
"""Fewer different answers than that may well deserve the same."""
OTHER = "other reasons"
UNSCORED = "unscored"
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_NUMBER = re.compile(r"(?<!HTTP )\b[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?\b")


class Latency(TypedDict):
    """Seconds per answer, over those that took any time."""

    mean: float
    max: float


class ScorerCounts(TypedDict):
    """What one scorer did, without the number of answers."""

    status: dict[str, int]
    reasons: dict[str, int]
    aspects: dict[str, float]
    cost: float
    version: NotRequired[str]
    latency_s: NotRequired[Latency]
    flip_rate: NotRequired[MetricDict | None]
    always: NotRequired[float]


class ScorerFacts(ScorerCounts):
    """What one scorer did."""

    answers: int


class ScoreCounter:
    """Counts the scores of rows that come shard by shard, and keeps no row."""

    def __init__(self, scorers: Sequence[str]) -> None:
        self._counts = {name: _Counts() for name in scorers}
        self.answers = self.truncated = 0
        """Answers so far, and those of them that the token limit stopped."""

    def add(self, rows: Iterable[ScoredSample]) -> None:
        for row in rows:
            self.answers += 1
            self.truncated += row.sample.finish_reason == "length"
            scores = {score.scorer: score for score in row.scores}
            for name, counts in self._counts.items():
                counts.add(row.sample, scores.get(name))

    def facts(self, *, seed: int) -> dict[str, ScorerFacts]:
        """What each scorer did:

        * `status`: answers per status, `unscored` where there is no score of it; they add up to `answers`.
        * `reasons`: answers that are not `ok`, per status and `plain_reason`; they add up to those statuses.
        * `aspects`: sums of what the scores carry (`truncated`, `comparisons`, `flips`, `cached` ...).
        * `flip_rate`: share of a comparing judge's comparisons whose two orders disagree.
        * `always`: the one value of all its scores (`score_value`), if at least `HANDFUL` different answers have one.
        * `version`: of the scorer, for a user's file the hash of its text; several where it changed in between.
        * `cost` (US dollars), and `latency_s`: mean and maximum over the answers that took any time.
        """
        return {name: {"answers": self.answers, **counts.facts(seed)} for name, counts in self._counts.items()}


@dataclass
class _Counts:
    """The counts of one scorer."""

    status: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    aspects: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    flips: dict[str, FloatArray] = field(default_factory=dict)
    """Per prompt, flips and comparisons. Each comparison stands in the scores of both its answers, and so does its
    flip: the ratio is that of either."""
    values: set[float] = field(default_factory=set)
    texts: set[str] = field(default_factory=set)
    """Different values of its scores, and different answers that have one; no more of either than are asked for."""
    versions: set[str] = field(default_factory=set)
    cost: float = 0.0
    seconds: float = 0.0
    longest_s: float = 0.0
    timed: int = 0

    def add(self, sample: Sample, score: Score | None) -> None:
        self.status[UNSCORED if score is None else score.status] += 1
        if score is None:
            return
        if score.status != "ok":
            self.reasons[f"{score.status}: {plain_reason(score.reason)}"] += 1
        for name, value in score.aspects.items():
            self.aspects[name] += value
        if score.aspects.get("comparisons"):
            judged = np.array([score.aspects.get("flips", 0.0), score.aspects["comparisons"]])
            self.flips[sample.prompt_id] = self.flips.get(sample.prompt_id, 0.0) + judged
        if (value := score_value(score)) is not None and len(self.values) < 2:
            self.values.add(value)
            if len(self.texts) < HANDFUL:
                self.texts.add(sample.text)
        self.versions.add(score.scorer_version)
        self.cost += score.cost
        self.seconds += score.latency_s
        self.longest_s = max(self.longest_s, score.latency_s)
        self.timed += score.latency_s > 0

    def facts(self, seed: int) -> ScorerCounts:
        found: ScorerCounts = {
            "status": dict(sorted(self.status.items())),
            "reasons": _most(self.reasons),
            "aspects": dict(sorted(self.aspects.items())),
            "cost": self.cost,
        }
        if self.versions:
            found["version"] = ", ".join(sorted(self.versions))
        if len(self.values) == 1 and len(self.texts) == HANDFUL:
            found["always"] = next(iter(self.values))
        if self.timed:
            found["latency_s"] = {"mean": self.seconds / self.timed, "max": self.longest_s}
        if self.flips:
            sums = np.array([self.flips[prompt_id] for prompt_id in sorted(self.flips)])
            n = int(sums[:, 1].sum()) // 2
            rate = clustered_statistic(sums, lambda s: s[..., 0] / s[..., 1], n=n, seed=seed)
            found["flip_rate"] = None if rate is None else rate.to_dict()
        return found


def plain_reason(reason: str | None) -> str:
    """A reason without what differs from answer to answer: numbers but for HTTP codes, and what is quoted.

    >>> plain_reason("no reply within 60 s"), plain_reason("HTTP 503: 'busy, try in 3 s'")
    ('no reply within # s', 'HTTP 503: …')
    """
    text = _NUMBER.sub("#", _QUOTED.sub("…", " ".join((reason or "no reason given").split())))
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}…"


def _most(reasons: Counter[str]) -> dict[str, int]:
    """The most frequent ones, the first in the alphabet among equals; the rest as one."""
    ranked = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    rest = sum(count for _, count in ranked[MOST_REASONS:])
    return dict(ranked[:MOST_REASONS]) | ({OTHER: rest} if rest else {})
