"""The run folder: config changes on resume, locking, atomic writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from rayalign.errors import RunFolderError
from rayalign.run_dir import RunDir, refused_changes, write_file
from tests.fakes import make_config


def test_what_may_change_on_resume() -> None:
    old = make_config().to_dict()
    longer = make_config(run={"name": "fake", "rounds": 9}, limits={"sample_timeout_s": 5}, tracking={"jsonl": False})
    assert refused_changes(old, longer.to_dict()) == []
    assert refused_changes(longer.to_dict(), old) == ["run.rounds: 9 -> 3"]
    other = make_config(training={"learning_rate": 1.0}).to_dict()
    assert refused_changes(old, other) == ["training.learning_rate: 0.003 -> 1.0"]


def test_folder_of_another_config_is_refused_with_a_diff(tmp_path: Path) -> None:
    RunDir(tmp_path).open(make_config().to_dict())
    with pytest.raises(RunFolderError, match=r"sampling\.responses: 4 -> 8") as caught:
        RunDir(tmp_path).open(make_config(sampling={"responses": 8}).to_dict())
    assert caught.value.exit_code == 2
    assert "--fork" in caught.value.remedy


def test_other_schema_version_is_refused(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    run_dir.open(make_config().to_dict())
    run_dir.update_info(schema_version=99)
    with pytest.raises(RunFolderError, match="schema_version 99"):
        run_dir.open(make_config().to_dict())


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with RunDir(tmp_path).lock(), pytest.raises(RunFolderError, match="in use"), RunDir(tmp_path).lock():
        pass
    with RunDir(tmp_path).lock():
        pass


def test_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_file(path, b"old")
    monkeypatch.setattr("os.fsync", lambda descriptor: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_file(path, b"new")
    assert path.read_bytes() == b"old"


def test_damage_and_absence_are_told_apart(tmp_path: Path) -> None:
    round_dir = RunDir(tmp_path).round(1)
    round_dir.commit("x", round_dir.write("a.bin", b"abc"))
    assert round_dir.committed("y") is None
    assert round_dir.committed("x") is not None
    (round_dir.root / "a.bin").unlink()
    with pytest.raises(RunFolderError, match="no file"):
        round_dir.committed("x")
