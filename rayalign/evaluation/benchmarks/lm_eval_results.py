"""What lm-evaluation-harness measured, as metrics with intervals. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rayalign.evaluation.benchmarks.base import Result
from rayalign.records import JsonObject, Metric

Z95 = 1.96
SHARES = ("acc", "exact_match", "f1", "mc1", "mc2", "em", "pass@")
"""Metrics that lie between 0 and 1, by how their names begin; their intervals do too."""
STDERR = "_stderr"


def harness_result(reply: Mapping[str, Any], tasks: Sequence[str]) -> Result:
    """The metrics of the tasks that were asked for, `TASK/METRIC` or `TASK/METRIC/FILTER`, each with the interval that
    its standard error gives; a row for every task, those of groups among them.

    A metric without a standard error has no interval and stands in the facts alone.
    """
    metrics, bare, rows = dict[str, Metric](), dict[str, float](), list[JsonObject]()
    for task, found in reply["results"].items():
        questions = _questions(reply, task)
        measured = _measured(found)
        rows.append({"id": task, "questions": questions, **{name: value for name, (value, _) in measured.items()}})
        if not _asked_for(task, tasks, reply):
            continue
        for name, (value, error) in measured.items():
            if error is None:
                bare[f"{task}/{name}"] = value
            else:
                metrics[f"{task}/{name}"] = Metric(value, questions, _interval(name, value, error))
    facts = {name: reply[key] for name, key in (("versions", "versions"), ("shots", "n-shot")) if key in reply}
    return Result(metrics, {**facts, **({"without_interval": bare} if bare else {})}, rows)


def _asked_for(task: str, tasks: Sequence[str], reply: Mapping[str, Any]) -> bool:
    """A tag stands for its tasks and has no result of its own: then all results count."""
    return task in tasks or not any(name in reply["results"] for name in tasks)


def _measured(found: Mapping[str, Any]) -> dict[str, tuple[float, float | None]]:
    """Metric -> (value, standard error); lm-eval's keys are "METRIC,FILTER" and "METRIC_stderr,FILTER"."""
    measured = {}
    for key, value in found.items():
        name, _, filtered = key.partition(",")
        if name.endswith(STDERR) or not filtered or (known := _finite(value)) is None:
            continue
        label = name if filtered == "none" else f"{name}/{filtered}"
        measured[label] = (known, _finite(found.get(f"{name}{STDERR},{filtered}")))
    return measured


def _finite(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _questions(reply: Mapping[str, Any], task: str) -> int:
    """How many questions a task asked; of a group, all of its tasks."""
    counts = reply.get("n-samples", {})
    if task in counts:
        return int(counts[task]["effective"])
    return int(reply["results"][task].get("sample_len") or reply["results"][task].get("sample_count") or 0)


def _interval(name: str, value: float, error: float) -> tuple[float, float]:
    low, high = value - Z95 * error, value + Z95 * error
    return (max(0.0, low), min(1.0, high)) if name.startswith(SHARES) else (low, high)
