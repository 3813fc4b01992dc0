"""A run on a cluster that is scaled to zero, with Ray's own autoscaler: it grows, loses a node, and shrinks."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rayalign.store.event_log import read_events
from rayalign.store.run_dir import RunDir
from tests.integration.fake_cloud import FakeCloud

pytestmark = [pytest.mark.integration, pytest.mark.slow]
QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
PROMPTS, RESPONSES = 2160, 32
"""All of the demo world's, and so many answers that a replacement comes before the last of them."""
SETTINGS = [
    "run.rounds=1", f"prompts.per_round={PROMPTS}", "prompts.holdout=32", f"sampling.responses={RESPONSES}",
    "evaluation.responses=1", "cluster.generators.min=1", "cluster.generators.max=3", "cluster.generators.idle_s=3",
]  # fmt: skip
TYPES = {
    "generator": {"resources": {"CPU": 1}, "labels": {"rayalign-role": "generator"}, "max_workers": 3},
    "learner": {"resources": {"CPU": 2}, "labels": {"rayalign-role": "learner"}, "max_workers": 1},
}


@pytest.fixture
def cloud() -> Iterator[FakeCloud]:
    with tempfile.TemporaryDirectory(prefix="fc", ignore_cleanup_errors=True) as folder:
        cloud = FakeCloud(Path(folder), TYPES, idle_s=5)
        try:
            cloud.start()
            yield cloud
        finally:
            cloud.stop()


def events(run_dir: RunDir, kind: str) -> list[dict[str, Any]]:
    return [event for event in read_events(run_dir.root / "metrics.jsonl") if event["event"] == kind]


def test_grows_from_zero_loses_a_node_and_shrinks(
    cloud: FakeCloud, demo_folder: Path, tmp_path: Path, wait_for: Callable
) -> None:
    assert cloud.nodes("generator") == cloud.nodes("learner") == []
    command = [sys.executable, "-m", "rayalign", "run", str(QUICKSTART), "--set", f"run.dir={tmp_path}"]
    command += [word for setting in SETTINGS for word in ("--set", setting)]
    run_dir = RunDir(tmp_path / "quickstart")
    with (tmp_path / "out").open("w+") as out:
        run = subprocess.Popen(command, env=cloud.env, stdout=out, stderr=subprocess.STDOUT, text=True)
        try:

            def sampling_with_three() -> bool:
                assert run.poll() is None, (tmp_path / "out").read_text()
                last = {one["name"]: one["state"] for one in events(run_dir, "replica")}
                ready = [name for name, state in last.items() if name.startswith("generator") and state == "joined"]
                return len(ready) == 3 and len(run_dir.round(1).shards("train")) >= 4

            wait_for(sampling_with_three, 600)
            cloud.kill(cloud.nodes("generator")[0])
            assert run.wait(900) == 0, (tmp_path / "out").read_text()
        finally:
            run.kill()
    said = (tmp_path / "out").read_text()
    assert "waiting for nodes: the cluster was asked for" in said
    assert "died: starting it again" in said and "going on with the others" not in said
    sampled = run_dir.round(1)
    rows = [row.sample for shard in sampled.shards("train") for row in sampled.read_shard("train", shard) or []]
    keys = [(row.prompt_id, row.index) for row in rows]
    assert len(keys) == len(set(keys)) == PROMPTS * RESPONSES
    assert {row.adapter_version for row in rows} == {0}
    assert sampled.finished
    busy = [one for one in events(run_dir, "pool") if one["what"] == "sample" and one["replicas"] == 3]
    assert busy and min(one["utilisation"] for one in busy) >= 0.9
    changes = [(one["name"], one["state"]) for one in events(run_dir, "replica")]
    lost = next(name for name, state in changes if state == "lost")
    assert (lost, "joined") in changes[changes.index((lost, "lost")) :]
    assert said.rindex(f"{lost} joins from") < said.index("round 1 · groups")
    assert ("generator-2", "sent away") in changes
    assert "Replicas, by seconds since the start" in (tmp_path / "quickstart" / "report.html").read_text()
    wait_for(lambda: not cloud.nodes("generator") and not cloud.nodes("learner"), 120)
