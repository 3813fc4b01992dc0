"""What a run tells Ray's metrics, and that the Grafana dashboard asks for nothing else."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from rayalign.actors import ray_metrics
from rayalign.actors.ray_metrics import RayMetrics
from rayalign.records import Sample, Score, ScoredSample
from rayalign.tracking.sink import StageState
from tests.unit.test_trackers import report

RAYS_OWN = {"ray_node_cpu_utilization", "ray_node_mem_used", "ray_node_mem_total", "ray_node_gpus_utilization",
            "ray_node_gram_used", "ray_node_gram_available"}  # fmt: skip
Series = dict[tuple[str, ...], float]


class Kept:
    """In the place of all three kinds of Ray's metrics: the last value by name and labels, or their sum."""

    series: Series

    def __init__(self, name: str, _: str, tag_keys: tuple[str, ...] = (), boundaries: Any = None) -> None:
        self.name, self.keys = name, tag_keys

    def set(self, value: float, tags: dict[str, str]) -> None:
        self.series[self._key(tags)] = value

    def inc(self, value: float, tags: dict[str, str]) -> None:
        self.series[self._key(tags)] = self.series.get(self._key(tags), 0) + value

    observe = inc

    def _key(self, tags: dict[str, str]) -> tuple[str, ...]:
        assert tuple(tags) == self.keys
        return self.name, *tags.values()


@pytest.fixture
def series(monkeypatch: pytest.MonkeyPatch) -> Series:
    kept = type("KeptHere", (Kept,), {"series": {}})
    for name in ("Counter", "Gauge", "Histogram"):
        monkeypatch.setattr(ray_metrics, name, kept)
    monkeypatch.setattr(ray_metrics, "addresses", lambda: ["10.0.0.1:8080"])
    return kept.series


def scored(status: Any, seconds: float) -> ScoredSample:
    reward = 1.0 if status == "ok" else None
    score = Score("judge", "1", status, reward, latency_s=seconds)
    return ScoredSample(Sample("p", 0, "a", [1], [], "stop", 0, 1), [score], reward)


def tell_all(metrics: RayMetrics) -> None:
    metrics.event("replica", {"name": "generator-0", "state": "joined"})
    metrics.stage(StageState("sample", 1, 8, 32, running=True))
    metrics.pool("generator", 2, 1, 3)
    metrics.scored([scored("ok", 0.5), scored("ok", 0.0), scored("timeout", 2.0)])
    metrics.event("stage", {"round": 1, "stage": "sample", "seconds": 2.0, "items": 8, "tokens": 0, "failed": True})
    metrics.event("stage", {"round": 1, "stage": "sample", "seconds": 3.0, "items": 24, "tokens": 100})
    metrics.stage(StageState("sample", 1, 32, 32, running=False))
    metrics.event("training", {"round": 1, "loss": 0.5, "steps": 2, "note": "text"})
    content = report(1)
    moved = {"mean_change": 0.25, "noise": 0.125, "spread": 0.5, "compared": 8}
    metrics.event("round", {**content, "trust": {**content["trust"], "drift": {"scorers": {"judge": moved}}}})


def test_what_a_run_tells(series: Series, tmp_path: Path) -> None:
    file = tmp_path / ".prometheus" / "one.json"
    metrics = RayMetrics("one", 5, 0)
    metrics.announce(file)
    assert json.loads(file.read_text()) == [{"labels": {"job": "ray"}, "targets": ["10.0.0.1:8080"]}]
    tell_all(metrics)
    assert series.pop(("rayalign_progress_time", "one")) > 1e9
    expected = {
        ("replica_changes", "generator", "joined"): 1,
        ("stage_running", "sample"): 0,
        ("stage_done", "sample"): 32,
        ("stage_size", "sample"): 32,
        ("replicas", "generator"): 2,
        ("replicas_busy", "generator"): 1,
        ("calls", "generator"): 3,
        ("scores", "judge", "ok"): 2,
        ("scores", "judge", "timeout"): 1,
        ("score_seconds", "judge"): 2.5,
        ("stage_seconds", "sample"): 5,
        ("stage_items", "sample"): 32,
        ("stage_tokens", "sample"): 100,
        ("stage_failures", "sample"): 1,
        ("training", "loss"): 0.5,
        ("training", "steps"): 2,
        ("rounds",): 5,
        ("round",): 1,
        ("metric", "pass_rate"): 0.3125,
        ("metric_low", "pass_rate"): 0.125,
        ("metric_high", "pass_rate"): 0.5,
        ("metric", "pass_rate/greedy"): 0.5,
        ("metric_low", "pass_rate/greedy"): 0.25,
        ("metric_high", "pass_rate/greedy"): 0.75,
        ("metric", "win_rate/round_0"): 0.5,
        ("metric_low", "win_rate/round_0"): 0.375,
        ("metric_high", "win_rate/round_0"): 0.625,
        ("sync_canary_gap",): 0.0625,
        ("sync_base_gap",): 0,
        ("sync_moved",): 0.5,
        ("alarms",): 1,
        ("drift_mean_change", "judge"): 0.25,
        ("drift_noise", "judge"): 0.125,
        ("drift_spread", "judge"): 0.5,
    }
    assert series == {(f"rayalign_{name}", "one", *labels): value for (name, *labels), value in expected.items()}
    metrics.close()
    assert not file.exists()


def test_the_dashboard_asks_for_what_there_is(series: Series) -> None:
    tell_all(RayMetrics("one", 5, 0))
    known = {f"ray_{name}" for name, *_ in series} | RAYS_OWN
    board = json.loads((files("rayalign.dashboard") / "grafana" / "rayalign.json").read_text())
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    assert all(panel["title"].endswith("?") or panel["title"].startswith("How") for panel in panels)
    for target in [target for panel in panels for target in panel["targets"]]:
        asked = set(re.findall(r"\bray_\w+", target["expr"]))
        assert {
            re.sub(r"_(total|bucket|sum|count)$", "", name) if name not in known else name for name in asked
        } <= known


def test_panels_lie_beside_each_other() -> None:
    board = json.loads((files("rayalign.dashboard") / "grafana" / "rayalign.json").read_text())
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in board["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) == 23
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
