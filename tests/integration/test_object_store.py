"""A whole run whose folder is on an object store, killed in the middle and run again."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from rayalign.records import ADAPTER_WEIGHTS
from rayalign.store.folder import Folder
from rayalign.store.run_dir import RunDir
from rayalign.store.tables import read_parquet
from tests.integration.conftest import small_config
from tests.object_store import ObjectStore

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def start(config: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "rayalign", "run", str(config)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


def test_killed_and_resumed(object_store: ObjectStore, demo_folder: Path, tmp_path: Path, wait_for: Callable) -> None:
    """Killed once round 1 has its first shard; the second process waits for the lease of the first to run out."""
    folder = Folder(object_store.uri("runs")) / "test"
    section = {"name": "test", "rounds": 2, "dir": object_store.uri("runs")}
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(small_config(run=section).to_dict()))
    first = start(config)
    run_dir = RunDir(folder)
    commit = folder / "rounds/0001/commits/train-00000.json"
    wait_for(lambda: commit.exists() or first.poll() is not None, 300)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    assert commit.exists()
    assert not run_dir.round(2).finished

    second = start(config)
    output, _ = second.communicate(timeout=500)
    assert second.returncode == 0, output
    assert "resuming" in output and "Traceback" not in output
    check_complete(run_dir)
    assert not (folder / ".lock.json").exists()
    assert {"driver.log", "learner-0.log", "skipped_prompts.json"} <= set((folder / "logs").names())
    events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [e["round"] for e in events if e["event"] == "round"][-2:] == [1, 2]
    assert len(run_dir.info["attempts"]) == 2
    check_report(folder)


def check_complete(run_dir: RunDir) -> None:
    """All commits hold, each sample once, the adapters as their commits say."""
    assert [r.index for r in run_dir.rounds()] == [0, 1, 2]
    for round_dir in run_dir.rounds():
        for name in round_dir.commits():
            round_dir.committed(name)
    for index in (1, 2):
        root = run_dir.round(index).root
        folder = root / "samples"
        rows = [row for name in folder.names() for row in read_parquet(folder / name)]
        keys = [(row["prompt_id"], row["index"]) for row in rows]
        assert len(keys) == len(set(keys)) == 32 * 4
        assert {row["adapter_version"] for row in rows} == {index - 1}
        weights = (root / "adapter" / ADAPTER_WEIGHTS).read_bytes()
        commit = json.loads((root / "COMMIT.json").read_text())
        assert hashlib.sha256(weights).hexdigest() == commit["adapter_sha256"]


def check_report(folder: Folder) -> None:
    (folder / "report.html").delete()
    subprocess.run([sys.executable, "-m", "rayalign", "report", str(folder)], check=True, timeout=60)
    assert "<svg" in (folder / "report.html").read_text()
