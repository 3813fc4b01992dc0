"""A round against earlier ones on the same held-out prompts: the section `comparisons` of its report.

held-out answers of both rounds ─► mean per prompt ─► paired difference, p ─► Holm over all rounds so far ─► verdict
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rayalign.config.run import RunConfig
from rayalign.config.scoring import verifiers_of
from rayalign.display import headline_metric
from rayalign.evaluation.metrics import prompt_means
from rayalign.evaluation.paired import Paired, PromptMeans, compare, holm, verdict
from rayalign.loop.repeats import evaluation_rows
from rayalign.records import EvalReport, JsonObject
from rayalign.store.round_dir import RoundDir
from rayalign.store.run_dir import RunDir


@dataclass(frozen=True, slots=True)
class Compared:
    """A round against one of the earlier ones."""

    round: int
    """The earlier one."""
    metric: str
    among: int
    """Rounds that the earlier one was chosen of, as the best."""
    found: Paired
    p_holm: float

    def to_dict(self) -> JsonObject:
        found = self.found
        return {
            "round": self.round,
            "metric": self.metric,
            "among": self.among,
            "n": found.difference.n,
            "difference": found.difference.to_dict(),
            "p": found.p,
            "p_holm": self.p_holm,
            "test": found.test,
            "verdict": verdict(found.difference.value, self.p_holm),
        }


def compare_round(config: RunConfig, run_dir: RunDir, report: EvalReport) -> dict[str, Compared]:
    """An evaluated round against `round_0`, the `previous` evaluated one and the `best` one before it.

    The metric is the gate's, or else the headline metric of the rounds so far. Holm's correction is over the rounds
    compared so far, and counts the best of several rounds as many times; so p-values in later reports are as strict
    as there are rounds. Empty for round 0, and where a round lacks the metric.
    """
    earlier = _earlier(run_dir, report.round_index)
    values = [{name: metric["value"] for name, metric in one["metrics"].items()} for one in earlier.values()]
    values.append({name: metric.value for name, metric in report.metrics.items()})
    gate = config.evaluation.gate
    metric = gate.metric if gate is not None else headline_metric(values)
    measured = {index: one["metrics"][metric]["value"] for index, one in earlier.items() if metric in one["metrics"]}
    if metric is None or metric not in report.metrics or not measured:
        return {}
    rounds = list(measured)
    wanted = {"round_0": rounds[0], "previous": rounds[-1], "best": max(rounds, key=lambda index: measured[index])}
    means = _Means(config, run_dir, metric)
    found = {}
    for name, index in wanted.items():
        paired = compare(means.of(report.round_index), means.of(index), seed=config.run.seed)
        if paired is not None:
            among = len(rounds) if name == "best" else 1
            corrected = _corrected(earlier, name, metric, min(1.0, paired.p * among))
            found[name] = Compared(index, metric, among, paired, corrected)
    return found


class _Means:
    """Means per prompt, of each round once."""

    def __init__(self, config: RunConfig, run_dir: RunDir, metric: str) -> None:
        self._verifiers, self._run_dir, self._metric = verifiers_of(config.scoring), run_dir, metric
        self._known: dict[int, PromptMeans] = {}

    def of(self, index: int) -> PromptMeans:
        if index not in self._known:
            rows_RN: Sequence = evaluation_rows(self._run_dir.round(index))
            self._known[index] = prompt_means(rows_RN, self._metric, self._verifiers)
        return self._known[index]


def _earlier(run_dir: RunDir, index: int) -> dict[int, JsonObject]:
    """The reports of the evaluated rounds before one, by round."""
    before: list[RoundDir] = [one for one in run_dir.rounds() if one.index < index]
    reports = {one.index: one.report() for one in before}
    return {number: report for number, report in reports.items() if report is not None and report["metrics"]}


def _corrected(earlier: Mapping[int, JsonObject], name: str, metric: str, p: float) -> float:
    """The last of all p-values of a kind of comparison, corrected for their number."""
    saved = [one.get("comparisons", {}).get(name) for one in earlier.values()]
    before = [min(1.0, one["p"] * one["among"]) for one in saved if one is not None and one["metric"] == metric]
    return holm([*before, p])[-1]
