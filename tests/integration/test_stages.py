"""`rayalign all` on real Ray: every stage trained by Ray Train, one of them killed and resumed, then a round."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rayalign.store.run_dir import RunDir
from rayalign.store.stage_dir import StageDir

pytestmark = [pytest.mark.integration, pytest.mark.slow]
CONFIG = Path(__file__).parents[2] / "configs" / "demo_all.yaml"
SMALL = [
    "sft.data.rows=640", "sft.data.holdout=32", "sft.training.checkpoint_steps=5", "sft.training.workers=2",
    "sft.training.threads=1", "reward_model.data.rows=320", "reward_model.data.holdout=32", "rounds.run.rounds=1",
    "rounds.prompts.per_round=16", "rounds.prompts.holdout=16", "rounds.sampling.responses=4",
    "rounds.evaluation.responses=1",
]  # fmt: skip


def start(folder: Path) -> subprocess.Popen[str]:
    settings = [x for setting in (f"run.dir={folder}", *SMALL) for x in ("--set", setting)]
    command = [sys.executable, "-m", "rayalign", "all", str(CONFIG), *settings]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def finish(process: subprocess.Popen[str], code: int) -> str:
    output, _ = process.communicate(timeout=800)
    assert process.returncode == code, output
    return output


def test_all_stages_from_nothing_with_one_killed_and_resumed(
    tmp_path: Path, wait_for: Callable[[Callable[[], object], float], None]
) -> None:
    root = tmp_path / "demo_all"
    stopped = start(tmp_path)
    wait_for(lambda: StageDir(root / "sft").latest_checkpoint() or stopped.poll() is not None, 400)
    stopped.send_signal(signal.SIGTERM)
    finish(stopped, 3)
    assert StageDir(root / "sft").finished() is None
    output = finish(start(tmp_path), 0)
    assert "resuming SFT" in output and "all stages are done" in output

    sft, reward_model = (StageDir(root / name).finished() for name in ("sft", "reward_model"))
    assert sft is not None and sft["metrics"]["steps"] == 20 and sft["data"]["rows"] == 640
    assert reward_model is not None and 0 <= reward_model["metrics"]["accuracy"] <= 1
    assert not (root / "sft" / "checkpoints").exists()
    rounds = RunDir(root / "rounds")
    assert [r.index for r in rounds.rounds()] == [0, 1]
    assert rounds.saved_config()["model"]["base"] == str(root / "sft" / "model")  # pyright: ignore
    assert (root / "rounds" / "report.html").exists()

    again = finish(start(tmp_path), 0)
    assert "SFT: done before" in again and "reward model: done before" in again and "all rounds are done" in again
    assert json.loads((root / "sft" / "stage.json").read_text()) == sft
