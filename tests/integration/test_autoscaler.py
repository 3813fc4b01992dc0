"""A run on a cluster that is scaled to zero, with Ray's own autoscaler: it grows, loses a node, and shrinks."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rayalign.store.event_log import read_events
from rayalign.store.run_dir import RunDir
from rayalign.store.tables import read_parquet
from tests.integration.fake_cloud import FakeCloud

pytestmark = [pytest.mark.integration, pytest.mark.slow]
QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
PROMPTS, RESPONSES = 2560, 8
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


def test_grows_from_zero_loses_a_node_and_shrinks(
    cloud: FakeCloud, demo_folder: Path, tmp_path: Path, wait_for: Callable
) -> None:
    assert cloud.nodes("generator") == cloud.nodes("learner") == []
    command = [sys.executable, "-m", "rayalign", "run", str(QUICKSTART), "--set", f"run.dir={tmp_path}"]
    command += [word for setting in SETTINGS for word in ("--set", setting)]
    with (tmp_path / "out").open("w+") as out:
        run = subprocess.Popen(command, env=cloud.env, stdout=out, stderr=subprocess.STDOUT, text=True)
        try:

            def told(*words: str) -> bool:
                assert run.poll() is None or run.returncode == 0, (tmp_path / "out").read_text()
                return run.poll() is not None or all(word in (tmp_path / "out").read_text() for word in words)

            wait_for(lambda: told("generator-1 joins") or told("generator-2 joins"), 600)
            shards = tmp_path / "quickstart" / "rounds" / "0001" / "samples"
            wait_for(lambda: len(list(shards.glob("train*"))) >= 4 or run.poll() is not None, 600)
            assert len(cloud.nodes("generator")) == 3
            cloud.kill(cloud.nodes("generator")[0])
            assert run.wait(900) == 0, (tmp_path / "out").read_text()
        finally:
            run.kill()
    said = (tmp_path / "out").read_text()
    assert "waiting for nodes: the cluster was asked for" in said
    assert "died: starting it again" in said
    rows = [row for file in sorted(shards.glob("train*")) for row in read_parquet(file)]
    keys = [(row["prompt_id"], row["index"]) for row in rows]
    assert len(keys) == len(set(keys)) == PROMPTS * RESPONSES
    assert {row["adapter_version"] for row in rows} == {0}
    assert RunDir(tmp_path / "quickstart").round(1).finished
    events = list(read_events(tmp_path / "quickstart" / "metrics.jsonl"))
    sampled = [one for one in events if (one["event"], one.get("what")) == ("pool", "sample") and one["replicas"] == 3]
    assert sampled and min(one["utilisation"] for one in sampled) >= 0.9
    states = [one["state"] for one in events if one["event"] == "replica" and one["name"].startswith("generator")]
    assert states.count("joined") >= 4 and "lost" in states and "sent away" in states
    assert "Replicas, by seconds since the start" in (tmp_path / "quickstart" / "report.html").read_text()
    wait_for(lambda: not cloud.nodes("generator") and not cloud.nodes("learner"), 120)
