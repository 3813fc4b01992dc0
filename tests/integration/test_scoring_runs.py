"""Whole runs scored by every kind of scorer, and one whose judge is killed in the middle of a round."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rayalign.store.run_dir import RunDir
from tests.integration.conftest import statuses
from tests.integration.judge_server import KEY, MODEL, judge_server
from tests.integration.test_run import check_complete, finish, start
from tests.processes import free_port

pytestmark = [pytest.mark.integration, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
SAMPLES = 64 * 4
HELD_OUT = 32 * 2


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_JUDGE_KEY", KEY)


@pytest.fixture
def service() -> Iterator[str]:
    """The example reward server of the docs."""
    port = free_port()
    server = subprocess.Popen([sys.executable, str(ROOT / "examples" / "reward_server.py"), str(port)])
    yield f"http://127.0.0.1:{port}/score"
    server.terminate()
    server.wait(10)


def judge(port: int, **changes: Any) -> dict[str, Any]:
    return {
        "type": "judge", "transport": "openai", "base_url": f"http://127.0.0.1:{port}/v1", "model": MODEL,
        "template": "rating", "reasons": False, "api_key_env": "TEST_JUDGE_KEY", "max_tokens": 32,
        "limits": {"concurrency": 12, "retries": 1}, **changes,
    }  # fmt: skip


def scoring(*sections: dict[str, Any]) -> str:
    return f"scoring={json.dumps(list(sections))}"


def test_every_scorer_in_one_run(demo_folder: Path, tmp_path: Path, service: str) -> None:
    """Rules in and out of a process of their own, answers, a reward model, a judge, a service: rewards combined,
    reports whose counts add up, the key nowhere."""
    (tmp_path / "short.py").write_text("def score(prompt, response): return -float(len(response.split()))\n")
    port = free_port()
    sections = [
        {"type": "rule", "function": "demo"},
        {"type": "rule", "function": str(tmp_path / "short.py:score"), "timeout_s": 5, "calibration": "rank"},
        {"type": "answer", "weight": 0},
        {"type": "reward_model", "model": "demo", "calibration": "zscore"},
        judge(port, weight=0.1),
        {"type": "remote", "url": service, "weight": 0.5},
    ]
    with judge_server(demo_folder, tmp_path / "server.log", port):
        finish(start(tmp_path, scoring(*sections), "combine={type: weighted_mean}"))
    run_dir = RunDir(tmp_path / "quickstart")
    check_complete(run_dir)
    for index in (1, 2):
        found = statuses(run_dir, index)
        assert {name: counts.total() for name, counts in found.items()} == dict.fromkeys(found, SAMPLES)
        assert len(found) == 6 and found.pop("answer:answer") == {"abstain": SAMPLES}
        assert all(counts["ok"] >= 0.98 * SAMPLES for counts in found.values())
        report = run_dir.round(index).report() or {}
        told = {name: one["status"] for name, one in report["trust"]["scorers"].items()}
        assert {name: sum(one.values()) for name, one in told.items()} == dict.fromkeys(told, SAMPLES + HELD_OUT)
        assert report["metrics"]["mean_reward"]["n"] > 0 and report["trust"]["agreement"]["pairs"]
        assert set(report["trust"]["canaries"]) and report["trust"]["drift"]
    files = [path for path in (tmp_path / "quickstart").rglob("*") if path.is_file()]
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


def test_a_judge_killed_in_the_middle_of_a_round(demo_folder: Path, tmp_path: Path, wait_for: Callable) -> None:
    """The run stops before it trains, resumable; with the judge back, the same command scores what is missing."""
    port, run_dir = free_port(), RunDir(tmp_path / "quickstart")
    settings = (scoring(judge(port)), "run.rounds=1", "prompts.per_round=192")
    with judge_server(demo_folder, tmp_path / "server.log", port) as server:
        process = start(tmp_path, *settings)
        wait_for(lambda: process.poll() is not None or len(run_dir.round(1).shards("train")) >= 1, 300)
        assert process.poll() is None, process.communicate()
        os.killpg(server.pid, signal.SIGKILL)
        output = finish(process, 3)
    assert "score" in output and "Traceback" not in output
    before = run_dir.round(1).shards("train")
    assert 1 <= len(before) < 6 and run_dir.round(1).committed("groups") is None
    kept = {shard: run_dir.round(1).committed(f"train-{shard:05d}") for shard in before}
    with judge_server(demo_folder, tmp_path / "server.log", port):
        finish(start(tmp_path, *settings))
    assert run_dir.round(1).finished
    assert {shard: run_dir.round(1).committed(f"train-{shard:05d}") for shard in before} == kept
    rows = [row for shard in range(6) for row in run_dir.round(1).read_shard("train", shard) or []]
    assert len({(row.sample.prompt_id, row.sample.index) for row in rows}) == len(rows) == 192 * 4
    (counts,) = statuses(run_dir, 1).values()
    assert counts.total() == 192 * 4 and counts["ok"] >= 0.98 * counts.total()
