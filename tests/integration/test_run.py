"""Whole runs through the command line, killed and resumed."""

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
from safetensors.torch import load, load_file

from rayalign.records import FULL_CONFIG, FULL_WEIGHTS
from rayalign.store.run_dir import RunDir
from rayalign.store.tables import read_parquet

pytestmark = pytest.mark.integration
QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
SMALL = [
    "run.rounds=2", "prompts.per_round=64", "prompts.holdout=32", "sampling.responses=4", "sampling.max_tokens=32",
    "evaluation.responses=2",
]  # fmt: skip


def command(folder: Path, *settings: str) -> list[str]:
    overrides = [f"run.dir={folder}", *SMALL, *settings]
    return [sys.executable, "-m", "rayalign", "run", str(QUICKSTART)] + [x for s in overrides for x in ("--set", s)]


def start(folder: Path, *settings: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(folder, *settings), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    output, _ = process.communicate(timeout=400)
    assert process.returncode == code, output
    return output


def check_complete(run_dir: RunDir) -> None:
    """Every round finished, every (prompt, index) once, every file as committed."""
    assert [r.index for r in run_dir.rounds()] == [0, 1, 2]
    for round_dir in run_dir.rounds():
        for name in round_dir.commits():
            round_dir.committed(name)
    for index in (1, 2):
        folder = run_dir.round(index).root / "samples"
        rows = [row for name in folder.names() for row in read_parquet(folder / name)]
        keys = [(row["prompt_id"], row["index"]) for row in rows]
        assert len(keys) == len(set(keys)) == 64 * 4
        assert {row["adapter_version"] for row in rows} == {index - 1}


def adapters(run_dir: RunDir) -> list[str]:
    return [json.loads((r.root / "COMMIT.json").read_text())["adapter_sha256"] for r in run_dir.rounds()]


@pytest.fixture(scope="module")
def whole(demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """An undisturbed run of two rounds."""
    folder = tmp_path_factory.mktemp("runs")
    output = finish(start(folder))
    assert "report:" in output and "Traceback" not in output
    return RunDir(folder / "quickstart")


def test_two_rounds(whole: RunDir) -> None:
    check_complete(whole)
    page = (whole.root / "report.html").read_text()
    assert "<svg" in page and "http://" not in page.replace("http://www.w3.org", "")
    events = [json.loads(line) for line in (whole.root / "metrics.jsonl").read_text().splitlines()]
    assert [e["round"] for e in events if e["event"] == "round"] == [0, 1, 2]
    report = whole.round(2).report()
    assert report is not None
    assert report["metrics"]["mean_reward"]["value"] > whole.round(0).report()["metrics"]["mean_reward"]["value"]
    assert report["sync"]["canary_gap"] < 0.001 < report["sync"]["moved"]
    assert {actor["name"] for actor in whole.info["attempts"][0]["actors"]} == {"generator-0", "scorer-0", "learner-0"}


@pytest.mark.parametrize("moment", ["rounds/0001/commits/train-00000.json", "rounds/0001/commits/adapter.json"])
def test_killed_between_two_stages_and_resumed(whole: RunDir, tmp_path: Path, moment: str, wait_for: Callable) -> None:
    process = start(tmp_path)
    wait_for(lambda: (tmp_path / "quickstart" / moment).exists() or process.poll() is not None, 300)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    run_dir = RunDir(tmp_path / "quickstart")
    assert len(run_dir.rounds()) < 3
    output = finish(start(tmp_path))
    assert "resuming" in output
    check_complete(run_dir)
    for index in (1, 2):
        for file in (whole.round(index).root.local_path() / "samples").glob("*.parquet"):
            tokens = [row["token_ids"] for row in read_parquet(file)]
            assert [r["token_ids"] for r in read_parquet(run_dir.round(index).root / "samples" / file.name)] == tokens


def test_sigterm_stops_in_order(demo_folder: Path, tmp_path: Path, wait_for: Callable) -> None:
    process = start(tmp_path)
    wait_for(lambda: (tmp_path / "quickstart/rounds/0000/COMMIT.json").exists() or process.poll() is not None, 300)
    process.send_signal(signal.SIGTERM)
    output = finish(process, code=3)
    assert "stopped by SIGTERM" in output
    assert "Traceback" not in output
    assert not RunDir(tmp_path / "quickstart").round(1).finished


@pytest.mark.slow
def test_deterministic_runs_give_the_same_adapters_byte_for_byte(demo_folder: Path, tmp_path: Path) -> None:
    finish(start(tmp_path / "a", "loop.deterministic=true"))
    finish(start(tmp_path / "b", "loop.deterministic=true"))
    assert adapters(RunDir(tmp_path / "a" / "quickstart")) == adapters(RunDir(tmp_path / "b" / "quickstart"))


@pytest.mark.slow
def test_all_weights_trained_killed_and_resumed(demo_folder: Path, tmp_path: Path, wait_for: Callable) -> None:
    """The generator serves just the weights that were committed before the kill, and the base is the base again."""
    settings = ["run.rounds=1", "model.full=true", "training.learning_rate=1.0e-4"]
    process = start(tmp_path, *settings)
    one = RunDir(tmp_path / "quickstart").round(1)
    commit = one.root.local_path() / "commits" / "adapter.json"
    wait_for(lambda: commit.exists() or process.poll() is not None, 300)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not one.finished
    found = one.adapter()
    assert found is not None and found.files is not None
    before, files = found.record, found.files.files
    assert set(files) == {FULL_CONFIG, FULL_WEIGHTS}
    output = finish(start(tmp_path, *settings))
    assert "resuming" in output and "Traceback" not in output
    assert one.commit_facts()["adapter_sha256"] == before.sha256 == hashlib.sha256(files[FULL_WEIGHTS]).hexdigest()
    report = one.report()
    assert report is not None
    assert report["sync"]["version"] == 1
    assert max(report["sync"]["canary_gap"], report["sync"]["base_gap"]) < 1e-4
    assert report["sync"]["moved"] > 0.01
    assert report["metrics"]["kl_base"]["value"] > 0.01
    base = load_file(demo_folder / FULL_WEIGHTS)
    trained = load(files[FULL_WEIGHTS])
    assert trained.keys() == base.keys()
    assert all(not (trained[name] == base[name]).all() for name in base)
