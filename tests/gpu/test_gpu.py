"""On a GPU: every part that `rayalign doctor --gpu` tries, a round, and the learner's benchmark."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rayalign.commands.doctor_gpu import CHECKS, try_part

ROOT = Path(__file__).parents[2]
PARTS = [pytest.param(name, marks=pytest.mark.gpu(2 if name == "tensor parallel" else 1)) for name in CHECKS]


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models of random weights, made once."""
    return tmp_path_factory.mktemp("doctor")


@pytest.mark.parametrize("name", PARTS)
def test_part(name: str, scratch: Path, tmp_path: Path) -> None:
    result = try_part(name, "cuda", scratch, tmp_path)
    assert result.status == "ok", f"{result.told}\n{(tmp_path / result.log).read_text()[-3000:] if result.log else ''}"


ENGINE = ["cluster.generators.gpus=1", "sync.mode=adapter"]
TURNS = ["cluster.learner.gpus=1", "cluster.placement=colocated"]
LEARNER = ["cluster.learner.gpus=1", "cluster.placement=disaggregated"]


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(ENGINE, marks=pytest.mark.gpu, id="generator on the GPU, learner on the CPU"),
        pytest.param([*ENGINE, *TURNS], marks=pytest.mark.gpu, id="both in turns on one GPU"),
        pytest.param([*ENGINE, *TURNS, "cluster.generators.sleep=2"], marks=pytest.mark.gpu, id="with a deeper sleep"),
        pytest.param([*ENGINE, *LEARNER], marks=pytest.mark.gpu(2), id="a GPU for each"),
    ],
)
def test_round(settings: list[str], tmp_path: Path) -> None:
    small = [f"run.dir={tmp_path}", "run.rounds=1", "prompts.per_round=32", "prompts.holdout=32"]
    changes = [word for setting in (*small, *settings) for word in ("--set", setting)]
    command = [sys.executable, "-m", "rayalign", "run", "configs/quickstart.yaml", *changes]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    report = json.loads((tmp_path / "quickstart/rounds/0001/report.json").read_text())
    assert report["sync"]["moved"] > report["sync"]["canary_gap"]


@pytest.mark.gpu
def test_learner_benchmark() -> None:
    command = [sys.executable, "benchmarks/learner.py", "--device", "cuda", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
