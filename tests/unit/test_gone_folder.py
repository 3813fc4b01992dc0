"""A run folder that goes while a run writes to it, and a clock that jumps."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from rayalign import cli
from rayalign.errors import StoreError
from rayalign.loop.run import run_rounds
from rayalign.store.run_dir import RunDir
from tests.fakes import make_config, make_run

DAY_S = 86_400
CONFIG = make_config(run={"name": "fake", "rounds": 1})


@pytest.mark.parametrize("instead", [None, "an empty folder", "another run's"])
def test_a_folder_that_goes_while_it_is_written_to(tmp_path: Path, instead: str | None) -> None:
    """Nothing is committed to what is in its place, and back again the run goes on."""
    root, away = tmp_path / "run", tmp_path / "away"
    run = make_run(root, CONFIG)
    commit = run.run_dir.round(1).commit
    with run.run_dir.lock():
        commit("before", {})
        root.rename(away)
        if instead is not None:
            root.mkdir()
        if instead == "another run's":
            (root / ".lock").touch()
        with pytest.raises(StoreError, match="is gone, or another folder is in its place") as caught:
            commit("after", {})
        assert caught.value.exit_code == 3
    assert not list(root.rglob("*.json"))
    shutil.rmtree(root, ignore_errors=True)
    away.rename(root)
    assert RunDir(root).round(1).commits() == ["before"]
    run_rounds(make_run(root, CONFIG))
    assert [one.index for one in RunDir(root).rounds()] == [0, 1]


@pytest.mark.parametrize("days", [-1, 1, 400])
def test_a_clock_that_jumps_changes_nothing(
    tmp_path: Path, days: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files of the future or the past, and `time.time` as it is after the jump."""
    run_rounds(make_run(tmp_path / "whole", CONFIG))
    root = tmp_path / "fake"
    run = make_run(root, make_config(run={"name": "fake", "rounds": 1}))
    run_rounds(run)
    for file in root.rglob("*"):
        os.utime(file, (time.time() + days * DAY_S,) * 2)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - days * DAY_S)
    assert cli.exit_code(["status", str(root), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["damaged"] == []
    assert cli.exit_code(["verify", str(root)]) == 0
    run_rounds(make_run(root, make_config(run={"name": "fake", "rounds": 2})))
    assert [one.index for one in RunDir(root).rounds()] == [0, 1, 2]
    reports = [RunDir(place).round(1).report() or {} for place in (root, tmp_path / "whole")]
    assert reports[0]["metrics"] == reports[1]["metrics"]
