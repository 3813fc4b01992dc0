"""The lock of a run folder on an object store: taken, renewed, taken over, lost."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from rayalign.errors import RunFolderError, StoreError
from rayalign.store import lease
from rayalign.store.folder import Folder
from rayalign.store.lease import Lease
from rayalign.store.run_dir import RunDir
from tests.object_store import ObjectStore

SECONDS = 1.0
PATIENCE = 5.0
"""Of a lease whose holder nobody waits for, on a busy machine."""


@pytest.fixture
def run_dir(object_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    monkeypatch.setattr(lease, "LEASE_S", SECONDS)
    return RunDir(Folder(object_store.uri(tmp_path.name)))


def lock_of(run_dir: RunDir) -> Folder:
    return run_dir.root / ".lock.json"


def leave_lock(run_dir: RunDir) -> None:
    """What a killed process leaves."""
    lock_of(run_dir).write_bytes(json.dumps({"owner": "dead", "host": "far", "pid": 7, "counter": 3}).encode())


def test_held_and_given_back(run_dir: RunDir) -> None:
    with run_dir.lock():
        first = json.loads(lock_of(run_dir).read_text())
        assert first["pid"] == os.getpid()
        time.sleep(SECONDS)
        assert json.loads(lock_of(run_dir).read_text())["counter"] > first["counter"]
        run_dir.update_info(x=1)
    assert not lock_of(run_dir).exists()


def test_a_holder_that_is_alive_is_not_disturbed(run_dir: RunDir) -> None:
    with run_dir.lock():
        with pytest.raises(RunFolderError, match=f"in use by another process: pid {os.getpid()} on") as caught:
            RunDir(run_dir.root).lock().__enter__()
        assert caught.value.exit_code == 2
        run_dir.update_info(x=1)


def test_a_dead_holder_is_waited_for_and_replaced(run_dir: RunDir) -> None:
    leave_lock(run_dir)
    started = time.monotonic()
    with run_dir.lock():
        assert time.monotonic() - started > SECONDS
        assert json.loads(lock_of(run_dir).read_text())["pid"] == os.getpid()


def test_a_torn_lock_is_no_lock(run_dir: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is waited for, and it is replaced."""
    monkeypatch.setattr(lease, "LEASE_S", PATIENCE)
    lock_of(run_dir).write_bytes(b'{"owner": "x"')
    started = time.monotonic()
    with run_dir.lock():
        assert time.monotonic() - started < PATIENCE
        assert json.loads(lock_of(run_dir).read_text())["pid"] == os.getpid()
    assert not lock_of(run_dir).exists()


def test_a_lost_lock_stops_the_next_commit_for_good(run_dir: RunDir) -> None:
    """Also after the other has left: what it wrote meanwhile is unknown here."""
    round_dir = run_dir.round(1)
    with run_dir.lock():
        files = round_dir.write("a.bin", b"1")
        round_dir.commit("before", files)
        leave_lock(run_dir)
        with pytest.raises(StoreError, match="taken over by another process: pid 7 on far") as caught:
            round_dir.commit("after", files)
        lock_of(run_dir).delete()
        for action in (round_dir.finish, lambda: run_dir.update_info(x=1), lambda: round_dir.commit("after", files)):
            with pytest.raises(StoreError, match="taken over"):
                action()
    assert caught.value.exit_code == 3
    assert round_dir.commits() == ["before"]
    assert not round_dir.finished


def test_a_lock_of_another_is_not_removed(run_dir: RunDir) -> None:
    mine = Lease(lock_of(run_dir), run_dir.root)
    mine.take()
    leave_lock(run_dir)
    mine.release()
    assert json.loads(lock_of(run_dir).read_text())["owner"] == "dead"


def test_a_lock_that_vanished_counts_as_lost(run_dir: RunDir) -> None:
    with run_dir.lock():
        lock_of(run_dir).delete()
        with pytest.raises(StoreError, match="taken over"):
            run_dir.update_info(x=1)
