"""The stage folder: only whole checkpoints are resumed from, only a whole result is a result."""

from __future__ import annotations

from pathlib import Path

import pytest

from rayalign.errors import RunFolderError
from rayalign.store.stage_dir import StageDir


def checkpoint(stage: StageDir, step: int, *, committed: bool = True) -> Path:
    folder = stage.checkpoints / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights %d" % step)
    if committed:
        stage.commit_checkpoint(folder)
    return folder


def test_the_newest_whole_checkpoint_is_resumed_from(tmp_path: Path) -> None:
    stage = StageDir(tmp_path)
    assert stage.latest_checkpoint() is None
    first, second = checkpoint(stage, 9), checkpoint(stage, 10)
    checkpoint(stage, 20, committed=False)
    assert stage.latest_checkpoint() == second
    (second / "model.safetensors").write_bytes(b"weights of another")
    assert stage.latest_checkpoint() == first
    (first / "model.safetensors").unlink()
    assert stage.latest_checkpoint() is None


def test_a_finished_stage_is_checked_and_keeps_only_its_result(tmp_path: Path) -> None:
    stage = StageDir(tmp_path)
    checkpoint(stage, 1)
    assert stage.finished() is None
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"x")
    facts = stage.finish(metrics={"steps": 1})
    assert stage.finished() == facts and list(facts["files"]) == ["model/model.safetensors"]
    assert not stage.checkpoints.exists()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"y")
    with pytest.raises(RunFolderError, match=r"model\.safetensors"):
        stage.finished()


def test_what_a_killed_process_left_is_cleared(tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "model").mkdir()
    StageDir(tmp_path).clear_result()
    assert not list(tmp_path.iterdir())
