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
from rayalign.records import SCHEMA_VERSION, EvalReport, Metric, TrainingGroup
from rayalign.store.files import write_json
from rayalign.store.folder import Folder
from rayalign.store.round_dir import SEAL
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
    del saved["groups"]["drop_files"], saved[SEAL]
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


def measured(tmp_path: Path, *rounds: dict[str, float]) -> SavedRun:
    """A run whose rounds, from 0 on, were measured so."""
    run_dir = RunDir(tmp_path / "measured")
    run_dir.open(make_config().to_dict())
    for index, values in enumerate(rounds):
        one = run_dir.round(index)
        metrics = {name: Metric(value, 8, (value, value)) for name, value in values.items()}
        report = json.dumps(EvalReport(index, index, metrics).to_dict()).encode()
        one.commit("report", one.write("report.json", report))
        one.finish(adapter_sha256=None)
    return SavedRun.at(run_dir.root)


@pytest.mark.parametrize(
    ("rounds", "best", "words"),
    [
        ([0.2, 0.5, 0.9, 0.6], 2, "best by pass rate on the held-out prompts (round 1: 50.0%, round 2: 90.0%, round 3"),
        ([0.2, 0.7, 0.9, 0.9], 2, "round 2 is best"),
        ([0.8, 0.5, 0.6], 2, "the base model itself has 80.0%: no round is better"),
        ([0.0, 0.0, 0.1], 2, "round 2 is best by pass rate"),
    ],
)
def test_best_round_is_that_of_the_best_headline_metric(
    rounds: list[float], best: int, words: str, tmp_path: Path
) -> None:
    """Of equal rounds the earlier; the mean reward, which says otherwise here, does not count."""
    values = [{"pass_rate": value, "mean_reward": -value} for value in rounds]
    found, why = measured(tmp_path, *values).best()
    assert found.index == best and why.startswith(f"round {best} is best by") and words in why
    assert ("no round is better" in why) == (rounds[0] >= max(rounds[1:]))


@pytest.mark.parametrize("passed", [{}, {"pass_rate": 0.0}])
def test_without_any_pass_the_mean_reward_tells_the_best(passed: dict[str, float], tmp_path: Path) -> None:
    """Rounds that were not evaluated are no candidates, and rewards may be negative."""
    rounds = [{"mean_reward": -5.0, **passed}, {"mean_reward": -1.5, **passed}, {}, {"mean_reward": -2.5, **passed}]
    found, why = measured(tmp_path, *rounds).best()
    assert found.index == 1 and "mean reward" in why and "(round 1: -1.500, round 3: -2.500)" in why


@pytest.mark.parametrize("rounds", [[], [{"pass_rate": 1.0}], [{"pass_rate": 1.0}, {}, {"length_tokens": 4.0}]])
def test_no_best_round_where_none_was_evaluated(
    rounds: list[dict[str, float]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = measured(tmp_path, *rounds)
    for command in (["export", "--to", str(tmp_path / "x")], ["chat"]):
        assert cli.exit_code([command[0], str(run.run_dir.root), *command[1:], "--round", "best"]) == 2
        assert "no trained round has a pass rate or a mean reward" in capsys.readouterr().err
    assert cli.exit_code(["export", str(run.run_dir.root), "--to", str(tmp_path / "x"), "--round", "worst"]) == 2
    assert "'worst' is not a valid integer" in capsys.readouterr().err
