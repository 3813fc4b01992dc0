"""What `rayalign status` says of runs that go on, crashed, are done or are damaged."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from rayalign import cli
from rayalign.commands.status import status
from rayalign.loop.run import run_rounds
from rayalign.store.damage import damaged
from rayalign.store.event_log import EventLog
from rayalign.store.folder import Folder
from rayalign.store.run_dir import RunDir
from rayalign.store.run_state import run_state
from rayalign.store.saved_run import SavedRun
from tests.fakes import Fuse, Killed, make_config, make_run
from tests.object_store import ObjectStore

CONFIG = make_config(run={"name": "fake", "rounds": 3})


def killed_run(root: Path, ticks: int) -> RunDir:
    with pytest.raises(Killed):
        run_rounds(make_run(root, CONFIG, Fuse(ticks)))
    return RunDir(root)


def finished_run(root: Path) -> RunDir:
    run_rounds(make_run(root, CONFIG))
    return RunDir(root)


def said(root: Path, capsys: pytest.CaptureFixture[str], **options: bool) -> str:
    status(str(root), print, **{"watch": False, "check": False, "as_json": False, **options})
    return capsys.readouterr().out


def write_events(root: Path, events: list[tuple[int, dict]]) -> None:
    """Events that many seconds ago."""
    now = datetime.now(UTC)
    lines = [json.dumps({"time": (now - timedelta(seconds=age)).isoformat(), **event}) for age, event in events]
    (root / "metrics.jsonl").write_text("\n".join(lines) + '\n{"torn')


def test_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finished_run(tmp_path / "run")
    lines = said(tmp_path / "run", capsys, check=True, watch=True).splitlines()
    assert lines == ["run: done, 3 of 3 rounds done", "  damaged     nothing"]


def test_crashed_in_a_round(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir = killed_run(tmp_path / "run", 9)
    state = run_state(SavedRun.at(tmp_path / "run"))
    begun = [one.index for one in run_dir.begun_rounds() if one.commits() and not one.finished]
    assert (state.state, state.in_flight, state.holder) == ("stopped", begun[0], None)
    assert state.finished == list(range(begun[0])) and state.shards == 2
    text = said(tmp_path / "run", capsys)
    assert f"run: stopped, {max(0, begun[0] - 1)} of 3 rounds done" in text and f"in flight   round {begun[0]}" in text


def test_running_is_who_holds_the_lock(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir = killed_run(tmp_path / "run", 6)
    with run_dir.lock():
        assert "run: running" in (text := said(tmp_path / "run", capsys)) and "works on it pid " in text
    assert "run: stopped" in said(tmp_path / "run", capsys)


def test_looking_does_not_take_the_lock(tmp_path: Path) -> None:
    run_dir = killed_run(tmp_path / "run", 6)
    saved = SavedRun.at(tmp_path / "run")
    for _ in range(3):
        with run_dir.lock():
            assert run_state(saved).state == "running"
        assert run_state(saved).state == "stopped"


def test_failed(tmp_path: Path) -> None:
    killed_run(tmp_path / "run", 6)
    with EventLog(tmp_path / "run" / "metrics.jsonl") as log:
        log.write("stage", round=1, stage="sample", failed=True)
    assert run_state(SavedRun.at(tmp_path / "run")).state == "failed"


def test_rate_and_time_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rounds took 60 and 40 s; what lay between two attempts is no round's time."""
    killed_run(tmp_path / "run", 6)
    rounds = [
        (900, {"event": "start"}),
        (800, {"event": "round", "round": 1}),
        (110, {"event": "start"}),
        (100, {"event": "round", "round": 1}),
        (40, {"event": "round", "round": 2}),
        (0, {"event": "round", "round": 3}),
    ]
    write_events(tmp_path / "run", rounds)
    state = run_state(SavedRun.at(tmp_path / "run"))
    assert state.round_s == pytest.approx(50, abs=0.01)
    left = 3 - max(state.finished, default=-1)
    assert state.left_s == pytest.approx(50 * left, abs=5)
    assert "last event  round of round 3" in said(tmp_path / "run", capsys)


@pytest.mark.parametrize(
    "content", [b"", b"{}\n", b"[1]\n\xff\xfe\n{", b'{"time": 3}\n{"time": "soon", "event": "x"}\n', b"\x00" * 100]
)
def test_a_log_that_says_nothing(tmp_path: Path, content: bytes) -> None:
    killed_run(tmp_path / "run", 6)
    (tmp_path / "run" / "metrics.jsonl").write_bytes(content)
    state = run_state(SavedRun.at(tmp_path / "run"))
    assert state.last_event == {} and state.age_s is None and state.round_s is None and state.left_s is None


def test_damage_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "run"
    run_dir = finished_run(root)
    assert damaged(run_dir) == damaged(run_dir, hashes=True) == []
    samples = root / "rounds/0001/samples/00000.parquet"
    content = samples.read_bytes()
    samples.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert damaged(run_dir) == []
    assert damaged(run_dir, hashes=True) == ["round 1: samples/00000.parquet has other content than its commit says"]
    samples.write_bytes(content[:-1])
    (root / "rounds/0002/scores/00001.parquet").unlink()
    (root / "rounds/0002/commits/groups.json").write_text("{")
    (root / "rounds/0001/COMMIT.json").write_text("")
    assert damaged(RunDir(root)) == [
        "round 1 has no COMMIT.json that can be read",
        f"round 1: samples/00000.parquet has {len(content) - 1} bytes, its commit says {len(content)}",
        "round 2: the commit groups cannot be read",
        "round 2: scores/00001.parquet is missing",
    ]
    text = said(root, capsys)
    assert "  damaged     round 2: scores/00001.parquet is missing" in text.splitlines()
    assert cli.exit_code(["status", str(root)]) == 0


@pytest.mark.parametrize("content", [None, b"{}", b'{"files": 7}', b"[]", b'{"commits": 3}', b"\x00"])
def test_a_round_whose_commit_says_nothing_is_not_done(tmp_path: Path, content: bytes | None) -> None:
    """Whatever stands in its place, a folder too."""
    finished_run(tmp_path / "run")
    path = tmp_path / "run/rounds/0002/COMMIT.json"
    path.unlink()
    path.mkdir() if content is None else path.write_bytes(content)
    assert damaged(RunDir(tmp_path / "run")) == ["round 2 has no COMMIT.json that can be read"]
    assert cli.exit_code(["status", "--check", str(tmp_path / "run")]) == 0
    assert cli.exit_code(["report", str(tmp_path / "run")]) == 0


def test_commits_that_are_gone_are_named(tmp_path: Path) -> None:
    run_dir = finished_run(tmp_path / "run")
    names = run_dir.round(2).commits()
    shutil.rmtree(tmp_path / "run/rounds/0002/commits")
    assert damaged(run_dir) == [f"round 2: the commit {name} is missing" for name in names]


def test_what_may_not_be_read_is_named(tmp_path: Path) -> None:
    """A folder in a file's place cannot be read by root either."""
    run_dir = finished_run(tmp_path / "run")
    for name in ("commits/groups.json", "scores/00000.parquet"):
        path = tmp_path / "run/rounds/0002" / name
        size = path.stat().st_size
        path.unlink()
        path.mkdir()
    found = damaged(run_dir, hashes=True)
    assert found[0] == "round 2: the commit groups cannot be read" and len(found) == 2
    assert found[1].startswith("round 2: scores/00000.parquet ") and size


def test_a_log_without_an_event_is_named(tmp_path: Path) -> None:
    run_dir = finished_run(tmp_path / "run")
    (tmp_path / "run/metrics.jsonl").write_bytes(b"\x00garbage\n")
    assert damaged(run_dir) == ["metrics.jsonl has no event that can be read"]


def test_a_missing_round_is_named(tmp_path: Path) -> None:
    run_dir = finished_run(tmp_path / "run")
    (tmp_path / "run/rounds/0001").rename(tmp_path / "gone")
    assert damaged(run_dir) == ["round 1 is missing: its folder is not there"]


def test_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    killed_run(tmp_path / "run", 6)
    found = json.loads(said(tmp_path / "run", capsys, as_json=True))
    assert found["run"] == "run" and found["state"] == "stopped" and found["damaged"] == []


def test_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.exit_code(["status", str(tmp_path)]) == 2
    assert "is not a run folder" in capsys.readouterr().err


def test_on_an_object_store(object_store: ObjectStore) -> None:
    run_dir = RunDir(Folder(object_store.uri("status/run")))
    run_dir.open(CONFIG.to_dict())
    saved = SavedRun.at(object_store.uri("status/run"))
    assert run_state(saved).state == "stopped"
    with run_dir.lock():
        state = run_state(saved)
        assert state.state == "running" and (state.holder or "").startswith("pid ")
    assert run_state(saved).state == "stopped" and damaged(run_dir) == []
