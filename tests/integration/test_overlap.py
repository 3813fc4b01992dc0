"""A whole run whose rounds overlap (`loop.max_staleness: 1`), killed while both sides work, and resumed."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from rayalign.store.damage import damaged
from rayalign.store.run_dir import RunDir
from rayalign.store.tables import read_parquet
from tests.integration.test_run import adapters, finish, start

pytestmark = [pytest.mark.integration, pytest.mark.slow]
SETTINGS = ["loop.max_staleness=1", "loop.deterministic=true", "run.rounds=3", "cluster.learner.threads=1"]
"""One thread each, so that the bytes do not depend on how many were fastest."""


def samplers(run_dir: RunDir) -> list[set[int]]:
    folders = [run_dir.round(index).root / "samples" for index in (1, 2, 3)]
    return [{row["adapter_version"] for name in at.names() for row in read_parquet(at / name)} for at in folders]


def test_killed_while_both_sides_work_and_resumed(demo_folder: Path, tmp_path: Path, wait_for: Callable) -> None:
    assert "Traceback" not in finish(start(tmp_path / "whole", *SETTINGS))
    whole = RunDir(tmp_path / "whole" / "quickstart")
    assert samplers(whole) == [{0}, {0}, {1}]
    assert [one.report()["sampled_by"] for one in whole.rounds()[1:]] == [0, 0, 1]
    events = [json.loads(line) for line in (whole.root / "metrics.jsonl").read_text().splitlines()]
    stages = {(one["round"], one["stage"]): place for place, one in enumerate(events) if one["event"] == "stage"}
    for index in (1, 2):
        assert stages[index + 1, "groups"] < stages[index, "sync"], "an engine answers for the version that it holds"
        assert stages[index, "sync"] < stages[index, "evaluate"]
    first, last = (whole.round(index).report()["metrics"]["mean_reward"]["value"] for index in (0, 3))
    assert last > first

    process = start(tmp_path / "killed", *SETTINGS)
    run_dir = RunDir(tmp_path / "killed" / "quickstart")
    sampled_ahead = run_dir.round(2).root.local_path() / "commits" / "prompts.json"
    wait_for(lambda: sampled_ahead.exists() or process.poll() is not None, 900)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not run_dir.round(1).finished and run_dir.round(2).sampler() == 0
    assert damaged(run_dir) == []
    assert "resuming" in finish(start(tmp_path / "killed", *SETTINGS))
    assert adapters(run_dir) == adapters(whole)
    assert samplers(run_dir) == samplers(whole)
