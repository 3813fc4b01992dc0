"""What a run is doing, as gauges and counters in Ray's metrics, which every node exports for Prometheus.

    RunReporter ──events, stages──► RayMetrics ──► ray.util.metrics ──► the node's agent ◄──scrape── Prometheus
    pools, scores ────────────────────┘

All is told by the driver, which sees every stage, call and score of a run. Labels have few values: the run, a stage, a
pool, a scorer with a status, the name of a metric; never a round or a prompt. Ray adds labels, and `ray_` before names.
"""

from __future__ import annotations

import time
from collections import Counter as Counts
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import ray
from ray.util.metrics import Counter, Gauge, Histogram

from rayalign.records import ScoredSample
from rayalign.store.files import write_json
from rayalign.tracking.points import points_of
from rayalign.tracking.sink import StageState

SECONDS = [0.001, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0]
"""Bounds of the histogram of how long a score took."""
Watch = Callable[[str, int, int, int], None]
"""Takes a pool's name, its replicas that are ready, how many of them have calls, and the calls under way."""


def unwatched(*_: object) -> None:
    """The watch of a pool that nobody looks at."""


class RayMetrics:
    """The metrics of one run. A `Sink` of `RunReporter`; made when Ray is joined.

    Args:
        run: its name.
        rounds: that it is to have.
        last: the last one that is finished.
    """

    def __init__(self, run: str, rounds: int, last: int) -> None:
        self._run, self._rounds, self._last = run, rounds, last
        self._targets: Path | None = None
        self._gauges: dict[str, Gauge] = {}
        self._counters: dict[str, Counter] = {}
        self._seconds = Histogram(
            "rayalign_score_seconds", "time that a score took", boundaries=SECONDS, tag_keys=("run", "scorer")
        )
        self._progressed()

    def announce(self, targets: Path) -> None:
        """Write the file by which Prometheus finds the nodes (`file_sd`); `close` deletes it.

        Raises:
            OSError: it cannot be written.
        """
        targets.parent.mkdir(exist_ok=True)
        write_json(targets, [{"labels": {"job": "ray"}, "targets": addresses()}])
        self._targets = targets

    def event(self, kind: str, fields: Mapping[str, object]) -> None:
        if kind == "round":
            self._round(fields)
        elif kind == "training":
            self._training({name: value for name, value in fields.items() if name != "round"})
        elif kind == "stage":
            self._stage_ended(fields)
        elif kind == "replica":
            pool = str(fields["name"]).rpartition("-")[0]
            self._count("replica_changes", 1, "replicas that came and went", pool=pool, state=str(fields["state"]))
        self._progressed()

    def stage(self, state: StageState) -> None:
        self._set("stage_running", state.running, "1 while the stage runs", stage=state.name)
        self._set("stage_done", state.done, "items done of the newest such stage", stage=state.name)
        self._set("stage_size", state.total, "items of the newest such stage", stage=state.name)
        self._progressed()

    def close(self) -> None:
        if self._targets is not None:
            self._targets.unlink(missing_ok=True)

    def pool(self, name: str, ready: int, busy: int, calls: int) -> None:
        """A `Watch`."""
        self._set("replicas", ready, "replicas that may get work", pool=name)
        self._set("replicas_busy", busy, "replicas that have calls", pool=name)
        self._set("calls", calls, "calls under way", pool=name)

    def scored(self, rows: Iterable[ScoredSample]) -> None:
        """Scores that have come."""
        scores = [score for row in rows for score in row.scores]
        for (scorer, status), count in Counts((score.scorer, score.status) for score in scores).items():
            self._count("scores", count, "scores given", scorer=scorer, status=status)
        for score in scores:
            if score.latency_s > 0:
                self._seconds.observe(score.latency_s, {"run": self._run, "scorer": score.scorer})

    def _round(self, report: Mapping[str, object]) -> None:
        index, points = report.get("round"), points_of(report)
        self._last = index if isinstance(index, int) else self._last
        measured = report.get("metrics")
        for name in measured if isinstance(measured, Mapping) else ():
            ends = {"metric": "", "metric_low": "ci95_low/", "metric_high": "ci95_high/"}
            for gauge, start in ends.items():
                if f"{start}{name}" in points:
                    self._set(gauge, points[f"{start}{name}"], "held-out metric, 95 % interval", metric=str(name))
        for name in ("canary_gap", "base_gap", "moved"):
            if f"sync/{name}" in points:
                self._set(f"sync_{name}", points[f"sync/{name}"], "of the sync proof, nats per token")
        self._set("alarms", points.get("alarms", 0), "alarms of the last round's report")
        self._drift(points)

    def _drift(self, points: Mapping[str, float]) -> None:
        for name, value in points.items():
            scorer, _, what = name.removeprefix("drift/scorers/").rpartition("/")
            if name.startswith("drift/scorers/") and what in ("mean_change", "noise", "spread"):
                self._set(f"drift_{what}", value, "scores of the same answers, then and now", scorer=scorer)

    def _training(self, values: Mapping[str, object]) -> None:
        for name, value in points_of({"training": values}).items():
            self._set("training", value, "training metric of the newest update", metric=name.removeprefix("training/"))

    def _stage_ended(self, fields: Mapping[str, object]) -> None:
        stage = str(fields["stage"])
        for name in ("seconds", "items", "tokens"):
            value = fields.get(name)
            if isinstance(value, int | float) and value > 0:
                self._count(f"stage_{name}", value, f"{name} of all such stages that have ended", stage=stage)
        if fields.get("failed"):
            self._count("stage_failures", 1, "stages that ended by an error", stage=stage)

    def _progressed(self) -> None:
        """Something got further. What never changes is set again, as Ray may lose what comes before it is ready."""
        self._set("rounds", self._rounds, "rounds that the run is to have")
        self._set("round", self._last, "the last finished round")
        self._set("progress_time", time.time(), "when anything last got further, seconds since 1970")

    def _set(self, name: str, value: float, meaning: str, **labels: str) -> None:
        gauge = self._gauges.get(name)
        if gauge is None:
            gauge = self._gauges[name] = Gauge(f"rayalign_{name}", meaning, tag_keys=("run", *labels))
        gauge.set(float(value), {"run": self._run, **labels})

    def _count(self, name: str, more: float, meaning: str, **labels: str) -> None:
        counter = self._counters.get(name)
        if counter is None:
            counter = self._counters[name] = Counter(f"rayalign_{name}", meaning, tag_keys=("run", *labels))
        counter.inc(more, {"run": self._run, **labels})


def addresses() -> list[str]:
    """Where the nodes of the cluster export their metrics."""
    return [f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}" for node in ray.nodes() if node["Alive"]]
