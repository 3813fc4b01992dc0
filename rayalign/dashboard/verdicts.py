"""Whether the latest round is better than the first: from the run's own paired test, else from what is stored.

On fewer than `ENOUGH_PROMPTS` held-out prompts nothing is said: intervals from so few are too narrow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rayalign.dashboard.curves import Readings
from rayalign.dashboard.held_out import HeldOut
from rayalign.dashboard.readings import Reading, Report, Rounds, number, reading, section
from rayalign.display import headline_metric

Word = Literal["better", "worse", "none", "few", "unknown"]
ENOUGH_PROMPTS = 30


@dataclass(frozen=True, slots=True)
class Verdict:
    """The main metric in the first and in the latest round that have it, and what the difference means."""

    metric: str
    first: tuple[int, Reading]
    last: tuple[int, Reading]
    word: Word
    """`few`: too few prompts for a verdict. `unknown`: one round only, or no interval."""
    difference: float
    interval: tuple[float, float] | None
    prompts: int | None
    """Held-out prompts that it rests on; None where the run does not tell."""
    how: str
    """How it was found, in words."""

    @property
    def rounds_differ(self) -> bool:
        return self.first[0] != self.last[0]


def verdict(rounds: Rounds, readings: Readings, held_out: Sequence[HeldOut], config: Report) -> Verdict | None:
    """The verdict on the main metric (`headline_metric`); None where no round has one."""
    metric = main_metric(readings)
    if metric is None:
        return None
    found = [(index, metrics[metric]) for index, metrics in readings if metric in metrics]
    first, last = found[0], found[-1]
    prompts = prompt_count(rounds, held_out, config, metric)
    if first[0] == last[0]:
        return Verdict(metric, first, last, "unknown", 0.0, None, prompts, "")
    tested = _tested(dict(rounds).get(last[0], {}), first[0], metric)
    difference, interval, how = tested[:3] if tested else _estimated(metric, first, last, held_out)
    word: Word = "unknown" if interval is None else tested[3] if tested else _word(*interval)
    if prompts is not None and prompts < ENOUGH_PROMPTS:
        word = "few"
    return Verdict(metric, first, last, word, difference, interval, prompts, how)


def main_metric(readings: Readings) -> str | None:
    """The metric that says how good a round is."""
    return headline_metric([{name: one.value for name, one in metrics.items()} for _, metrics in readings])


def best_round(verdict: Verdict, readings: Readings) -> tuple[int, Reading]:
    """The round with the highest value of the main metric, the earliest among equals."""
    found = [(index, metrics[verdict.metric]) for index, metrics in readings if verdict.metric in metrics]
    return max(found, key=lambda one: (one[1].value, -one[0]))


def prompt_count(rounds: Rounds, held_out: Sequence[HeldOut], config: Report, metric: str) -> int | None:
    """How many prompts the latest evaluation rests on: as its own comparisons say, else the stored ones, else what its
    report and the config say."""
    for compared in section(rounds[-1][1].get("comparisons") if rounds else None).values():
        if (n := number(section(compared).get("n"))) is not None:
            return int(n)
    if held_out:
        return len(held_out[-1].prompts)
    for _, one in reversed(rounds):
        if (answers := number(section(section(one.get("metrics")).get(metric)).get("n"))) is not None:
            each = number(section(config.get("evaluation")).get("responses"))
            # Without the number of answers to each there are at most as many prompts as answers.
            known = each is not None or answers < ENOUGH_PROMPTS
            return int(answers / max(1.0, each or 1.0)) if known else None
    return None


def _tested(
    report: Mapping[str, object], baseline: int, metric: str
) -> tuple[float, tuple[float, float], str, Word] | None:
    """What the run's own paired test says of this round against `baseline`."""
    for one in map(section, section(report.get("comparisons")).values()):
        difference, said = reading(one.get("difference")), one.get("verdict")
        if one.get("metric") != metric or number(one.get("round")) != baseline:
            continue
        if difference is None or difference.ci95 is None or said not in ("better", "worse", "none"):
            continue
        p = number(one.get("p_holm"))
        how = f"paired {one.get('test') or 'test'} over prompts" + (f", p {_p(p)} (Holm)" if p is not None else "")
        return difference.value, difference.ci95, how, said
    return None


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"


def _estimated(
    metric: str, first: tuple[int, Reading], last: tuple[int, Reading], held_out: Sequence[HeldOut]
) -> tuple[float, tuple[float, float] | None, str]:
    stored = {one.round: one for one in held_out}
    if metric == "mean_reward" and first[0] in stored and last[0] in stored:
        paired = paired_difference(stored[last[0]], stored[first[0]])
        if paired is not None:
            return *paired, "paired over prompts, from the stored rewards"
    difference = last[1].value - first[1].value
    if first[1].ci95 is None or last[1].ci95 is None:
        return difference, None, ""
    half = sum(((one.ci95[1] - one.ci95[0]) / 2) ** 2 for one in (first[1], last[1]) if one.ci95) ** 0.5
    return difference, (difference - half, difference + half), "estimated from both intervals"


def paired_difference(one: HeldOut, other: HeldOut) -> tuple[float, tuple[float, float]] | None:
    """Mean over shared prompts of the difference of a prompt's mean rewards, with a normal 95 % interval; None for
    fewer than two prompts."""
    _, ours, theirs = np.intersect1d(one.prompts, other.prompts, assume_unique=True, return_indices=True)
    differences = _means(one.rewards_PK[ours]) - _means(other.rewards_PK[theirs])
    differences = differences[np.isfinite(differences)]
    if len(differences) < 2:
        return None
    mean, half = float(differences.mean()), 1.96 * float(differences.std(ddof=1)) / len(differences) ** 0.5
    return mean, (mean - half, mean + half)


def _means(rewards_PK: np.ndarray) -> np.ndarray:
    counts = np.isfinite(rewards_PK).sum(axis=1)
    return np.where(counts > 0, np.nansum(rewards_PK, axis=1), np.nan) / np.maximum(1, counts)


def _word(low: float, high: float) -> Word:
    return "better" if low > 0 else "worse" if high < 0 else "none"
