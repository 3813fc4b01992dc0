"""Run folders that were moved, extended, or written by another version."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rayalign import cli
from rayalign.commands.show import show
from rayalign.errors import RunFolderError
from rayalign.launch import run as launch
from rayalign.loop.run import run_rounds
from rayalign.records import SCHEMA_VERSION, TrainingGroup
from rayalign.store.files import write_json
from rayalign.store.folder import Folder
from rayalign.store.run_dir import RunDir
from rayalign.store.saved_run import SavedRun
from tests.fakes import make_config, make_run

CONFIG = make_config(run={"name": "fake", "rounds": 1})


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run_rounds(made := make_run(tmp_path / "fake", CONFIG))
    return made.run_dir


@pytest.mark.parametrize("command", [["show"], ["export", "--to", "x"], ["chat"], ["report"]])
def test_newer_folder_is_refused_by_every_reader(
    run: RunDir, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run.update_info(schema_version=SCHEMA_VERSION + 1)
    assert cli.exit_code([command[0], str(run.root), *command[1:]]) == 2
    error = capsys.readouterr().err
    assert f"has schema_version {SCHEMA_VERSION + 1}" in error
    assert f"this rayalign reads schema_version {SCHEMA_VERSION}" in error
    assert "upgrade rayalign" in error


@pytest.mark.parametrize("version", [0, "1", None])
def test_schema_that_never_was(run: RunDir, version: object) -> None:
    run.update_info(schema_version=version)
    with pytest.raises(RunFolderError, match="use the rayalign version that made it"):
        SavedRun.at(run.root)


def test_older_folder_is_read_and_resumed(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a later version will see today's: a lower number, no drop reasons, groups without a column of today's."""
    monkeypatch.setattr("rayalign.store.run_dir.SCHEMA_VERSION", SCHEMA_VERSION + 1)
    round_dir = run.round(1)
    saved = json.loads((round_dir.root / "commits/groups.json").read_text())
    del saved["groups"]["drop_files"]
    saved["groups"]["drop_reasons"] = {"0" * 16: "no_reward"}
    table = pq.read_table(round_dir.root.local_path() / "groups/00000.parquet").drop_columns(["revised_token_ids"])
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer)
    files = round_dir.write("groups/00000.parquet", buffer.getvalue().to_pybytes())
    write_json(round_dir.root / "commits/groups.json", {**saved, "files": files})
    rows = json.loads(show(str(run.root), 1, None, None, as_json=True))["prompts"]
    assert [row["group"] for row in rows].count("kept") == saved["groups"]["kept"]
    assert TrainingGroup.from_row(table.to_pylist()[0]).revised_token_ids == []
    launch.write_report(run.root)
    run_rounds(make_run(run.root, make_config(run={"name": "fake", "rounds": 2})))
    assert [one.index for one in run.rounds()] == [0, 1, 2]


def test_moved_renamed_and_extended(run: RunDir, tmp_path: Path, folder: Folder) -> None:
    """The folder at another place, on a disk or an object store, shows the same and goes on as the unmoved one does."""
    before = json.loads(show(str(run.root), 1, None, None, as_json=True))
    if folder.is_local:
        shutil.move(run.root.local_path(), tmp_path / "elsewhere" / "renamed")
        there = Folder(tmp_path / "elsewhere" / "renamed")
    else:
        there = folder / "elsewhere" / "renamed"
        for name in run.root.files():
            (there / name).write_bytes((run.root / name).read_bytes())
    after = json.loads(show(str(there), 1, None, None, as_json=True))
    assert after == {**before, "run": "renamed"}
    longer = make_config(run={"name": "renamed", "dir": "elsewhere", "rounds": 2})
    run_rounds(moved := make_run(there, longer))
    run_rounds(stay := make_run(tmp_path / "stay", make_config(run={"name": "fake", "rounds": 2})))
    finished = [one.run_dir.round(2).commit_facts()["adapter_sha256"] for one in (moved, stay)]
    assert finished[0] == finished[1]
    assert str(launch.write_report(there)) == str(there / "report.html")


def test_nothing_in_a_run_folder_names_its_place(run: RunDir, tmp_path: Path) -> None:
    assert not [name for name in run.root.files() if str(tmp_path).encode() in (run.root / name).read_bytes()]
