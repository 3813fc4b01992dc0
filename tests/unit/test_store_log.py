"""What a run keeps beside its rounds, on an object store: event log, logs, report, fork."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from rayalign.config.file import redact
from rayalign.dashboard.page import write_report
from rayalign.errors import RunFolderError
from rayalign.launch import session
from rayalign.launch.fork import fork_run
from rayalign.loop.run import run_rounds
from rayalign.store.event_log import EventLog, StoreEventLog, open_log
from rayalign.store.folder import Folder
from rayalign.store.run_dir import RunDir
from tests.fakes import make_config, make_run
from tests.object_store import ObjectStore, s3_uri
from tests.processes import free_port


@pytest.fixture
def remote(object_store: ObjectStore, tmp_path: Path) -> Folder:
    return Folder(object_store.uri(tmp_path.name))


def kinds(path: Folder) -> list[str]:
    return [json.loads(line)["event"] for line in (path.find_text() or "").splitlines()]


def test_the_kind_of_log_follows_the_folder(remote: Folder, tmp_path: Path) -> None:
    for folder, kind in ((Folder(tmp_path), EventLog), (remote, StoreEventLog)):
        with open_log(folder / "m.jsonl") as log:
            assert type(log) is kind


def test_events_are_gathered_and_written_after_a_while_and_on_closing(remote: Folder) -> None:
    path = remote / "m.jsonl"
    log = StoreEventLog(path, every_s=1.0)
    log.write("a")
    log.write("b")
    assert kinds(path) == []
    deadline = time.monotonic() + 10
    while not kinds(path):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    log.write("c")
    log.close()
    assert kinds(path) == ["a", "b", "c"]
    with pytest.raises(ValueError, match="closed"):
        log.write("d")


def test_a_resumed_run_goes_on_after_what_is_there(remote: Folder) -> None:
    path = remote / "m.jsonl"
    path.write_bytes(b'{"event": "a"}')
    with open_log(path) as log:
        log.write("b")
    assert kinds(path) == ["a", "b"]


def test_a_store_that_is_away_is_tried_again_on_closing(remote: Folder) -> None:
    path = remote / "m.jsonl"
    log = StoreEventLog(path, every_s=0.1)
    log._target = Folder(s3_uri("bucket/x", free_port()))
    log.write("a")
    time.sleep(2.0)
    log._target = path
    log.close()
    assert kinds(path) == ["a"]


def test_logs_are_added_at_the_end_also_of_a_failed_run(remote: Folder) -> None:
    (remote / "logs/driver.log").write_bytes(b"first\n")
    with pytest.raises(RuntimeError, match="failed"), session.local_logs(remote / "logs") as folder:
        (folder / "driver.log").write_text("second\n")
        (folder / "skipped_prompts.json").write_text("{}")
        raise RuntimeError("failed")
    assert not folder.exists()
    assert (remote / "logs/driver.log").read_text() == "first\nsecond\n"
    assert (remote / "logs/skipped_prompts.json").read_text() == "{}"


def test_logs_stay_where_the_store_is_away(
    capsys: pytest.CaptureFixture[str], object_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with session.local_logs(Folder(s3_uri("bucket/x", free_port()))) as folder:
        (folder / "driver.log").write_text("x")
    assert (folder / "driver.log").read_text() == "x"
    assert str(folder) in capsys.readouterr().err


def test_where_the_run_folder_is(object_store: ObjectStore) -> None:
    config = make_config(run={"name": "x", "dir": "s3://bucket/runs?region=here"})
    assert str(session.run_folder(config.run.dir, config.run.name)) == "s3://bucket/runs/x?region=here"
    assert session.run_folder("runs", "x").local_path() == Path.cwd() / "runs" / "x"


def test_report_and_fork(remote: Folder) -> None:
    config = make_config(run={"name": "old", "rounds": 1, "dir": str(remote)})
    run_rounds(make_run(remote / "old", config))
    RunDir(remote / "old").save_config(redact(config.to_dict()))
    RunDir(remote / "old").update_info(inputs={"model_sha256": "m"})
    page = write_report(str(remote / "old"))
    assert "<svg" in page.read_text()
    forked = fork_run(config, "new")
    new = RunDir(session.run_folder(forked.run.dir, forked.run.name))
    assert str(new.root) == str(remote / "new")
    assert [r.index for r in new.rounds()] == [0, 1]
    assert new.round(1).committed("adapter") == RunDir(remote / "old").round(1).committed("adapter")
    assert new.info["forked_from"] == str(remote / "old")


def test_no_run_on_the_store(remote: Folder) -> None:
    with pytest.raises(RunFolderError, match="has no config"):
        write_report(str(remote))
