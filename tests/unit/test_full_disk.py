"""A disk that is full: an error that names what could not be written, nothing half-written, and the run goes on."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from rayalign import cli
from rayalign.errors import StoreError, full_disk
from rayalign.loop.run import run_rounds
from rayalign.store.event_log import EventLog
from rayalign.store.folder import Folder
from rayalign.store.run_dir import RunDir
from tests.fakes import make_run

FULL = Path("/dev/full")
"""Linux's device that every write to fails on as on a full disk."""


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 80 KiB."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=80k", "tmpfs", place], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def test_a_run_on_a_full_disk_is_resumed_once_there_is_space(small: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No space left on device") as found:
        run_rounds(make_run(small))
    assert found.value.exit_code == 3 and str(small) in found.value.found and "free space" in found.value.remedy
    assert not list(small.rglob("*.tmp"))
    begun = RunDir(small).rounds()
    subprocess.run(["mount", "-o", "remount,size=64m", small], check=True)
    run_rounds(make_run(small))
    whole = make_run(tmp_path / "whole")
    run_rounds(whole)
    adapters = [[r.commit_facts() or {} for r in run.rounds()] for run in (RunDir(small), whole.run_dir)]
    assert len(begun) < len(adapters[0])
    assert [facts["adapter_sha256"] for facts in adapters[0]] == [facts["adapter_sha256"] for facts in adapters[1]]


def test_a_file_that_does_not_fit_names_itself_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / f".scores.{os.getpid()}.tmp").symlink_to(FULL)
    with pytest.raises(StoreError, match=r"scores: No space left"):
        Folder(tmp_path / "scores").write_bytes(b"1")
    assert not list(tmp_path.iterdir())


def test_the_event_log_on_a_full_disk(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").symlink_to(FULL)
    with (
        EventLog(tmp_path / "metrics.jsonl") as log,
        pytest.raises(StoreError, match=r"metrics\.jsonl: No space left"),
    ):
        log.write("start")


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, os.strerror(28), "/data/x"),
        OSError(122, os.strerror(122), "/data/x"),
        sqlite3.OperationalError("database or disk is full"),
        RuntimeError("SafetensorError: I/O error: No space left on device (os error 28)"),
    ],
)
def test_any_command_tells_of_a_full_disk_and_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    def write_report(run_dir: str) -> None:
        try:
            raise error
        except Exception as cause:
            raise ValueError("the report cannot be written") from cause

    monkeypatch.setattr("rayalign.dashboard.page.write_report", write_report)
    assert cli.exit_code(["report", "runs/x"]) == 3
    said = capsys.readouterr().err
    assert "free space" in said and "run the same command again" in said and "Traceback" not in said


def test_other_errors_are_not_taken_for_a_full_disk() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert full_disk(first) is None and full_disk(PermissionError(13, "Permission denied")) is None
