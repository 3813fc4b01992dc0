"""The run folder: config changes on resume, locking, atomic writes."""

from __future__ import annotations

import datetime
import json
import pickle
from pathlib import Path

import pytest

from rayalign.config.file import redact, with_defaults
from rayalign.errors import RunFolderError
from rayalign.loop.run import run_rounds
from rayalign.records import SCHEMA_VERSION
from rayalign.store.files import write_file
from rayalign.store.folder import Folder
from rayalign.store.round_dir import sealed
from rayalign.store.run_dir import RunDir
from tests.fakes import Fuse, Killed, make_config, make_run


def begun(folder: Path | Folder) -> RunDir:
    """With a commit, on which all settings but those of later stages have an influence."""
    run_dir = RunDir(folder)
    run_dir.open(make_config().to_dict())
    run_dir.round(1).commit("prompts", {})
    return run_dir


def test_folder_of_another_config_is_refused_with_a_diff(folder: Folder) -> None:
    begun(folder)
    with pytest.raises(RunFolderError, match=r"prompts\.per_round: 40 -> 8") as caught:
        RunDir(folder).open(make_config(prompts={"source": "demo", "per_round": 8}).to_dict())
    assert caught.value.exit_code == 2
    assert "--fork" in caught.value.remedy


def test_a_run_of_a_version_without_a_key_resumes_with_its_default(tmp_path: Path) -> None:
    """Keys at the top, in a section and in an item of a list; one that is set to something else is refused as ever."""
    config = make_config()
    old = config.to_dict()
    del old["tracking"], old["combine"], old["sampling"]["top_p"], old["scoring"][0]["ask"], old["objective"]["beta"]
    RunDir(tmp_path).update_info(schema_version=SCHEMA_VERSION)
    RunDir(tmp_path).save_config(old)
    RunDir(tmp_path).open(redact(config.to_dict()), with_defaults)
    assert RunDir(tmp_path).saved_config() == config.to_dict()
    begun(tmp_path).round(1).commit("train-00000", {})
    for change, line in (
        ({"sampling": {"responses": 4, "top_p": 0.5}}, r"sampling\.top_p: 1.0 -> 0.5"),
        ({"combine": {"type": "min"}}, r"combine\.type: 'weighted_sum' -> 'min'"),
    ):
        RunDir(tmp_path).save_config(old)
        with pytest.raises(RunFolderError, match=line):
            RunDir(tmp_path).open(make_config(**change).to_dict(), with_defaults)


def test_a_key_that_this_version_does_not_know_is_refused(tmp_path: Path) -> None:
    """With nothing filled in: the saved config stands as it is."""
    begun(tmp_path).save_config({**make_config().to_dict(), "future": {"key": 1}})
    with pytest.raises(RunFolderError, match=r"future\.key: 1 -> None"):
        RunDir(tmp_path).open(make_config().to_dict(), with_defaults)


def test_other_schema_version_is_refused(folder: Folder) -> None:
    run_dir = RunDir(folder)
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


def test_damage_and_absence_are_told_apart(folder: Folder) -> None:
    round_dir = RunDir(folder).round(1)
    round_dir.commit("x", round_dir.write("a.bin", b"abc"))
    assert round_dir.committed("y") is None
    assert round_dir.committed("x") is not None
    (round_dir.root / "a.bin").write_bytes(b"abd")
    with pytest.raises(RunFolderError, match="the commit says"):
        round_dir.committed("x")
    (round_dir.root / "a.bin").delete()
    with pytest.raises(RunFolderError, match="no file"):
        round_dir.committed("x")


def test_the_rounds_commit_holds_every_commit(folder: Folder) -> None:
    round_dir = RunDir(folder).round(1)
    for name, fact in (("b", 'a \u2028 "text" ü'), ("a", None)):
        round_dir.commit(name, round_dir.write(f"{name}.bin", b"abc"), fact=fact)
    round_dir.finish(adapter_sha256=None, other=[1])
    commits = {name: round_dir.committed(name) for name in ("a", "b")}
    assert list(commits) == round_dir.commits() and commits["b"] is not None
    whole = {name: sealed(commit) for name, commit in commits.items() if commit is not None}
    assert round_dir.commit_facts() == {
        "schema_version": SCHEMA_VERSION, "commits": whole, "adapter_sha256": None, "other": [1],
    }  # fmt: skip


def test_a_rounds_commit_without_commits(folder: Folder) -> None:
    round_dir = RunDir(folder).round(0)
    round_dir.finish()
    assert round_dir.commit_facts() == {"schema_version": SCHEMA_VERSION, "commits": {}}


def test_killed_and_resumed_gives_the_same_run(folder: Folder) -> None:
    """The same rounds on either storage; what was written without a commit is written anew."""
    config = make_config(run={"name": "fake", "rounds": 1})
    run_rounds(whole := make_run(folder / "whole", config))
    with pytest.raises(Killed):
        run_rounds(make_run(folder / "killed", config, Fuse(9)))
    assert RunDir(folder / "killed").round(1).committed("groups") is None
    (folder / "killed" / "rounds/0001/groups/00000.parquet").write_bytes(b"half a file")
    run_rounds(resumed := make_run(folder / "killed", config))
    assert [r.index for r in resumed.run_dir.rounds()] == [0, 1]
    finished = [json.loads((r.run_dir.round(1).root / "COMMIT.json").read_text()) for r in (whole, resumed)]
    assert finished[0]["adapter_sha256"] == finished[1]["adapter_sha256"]
    assert resumed.run_dir.round(1).commits() == sorted(finished[1]["commits"])
    shard = resumed.run_dir.round(1).read_shard("train", 0)
    assert shard == whole.run_dir.round(1).read_shard("train", 0)
    assert shard is not None and len(shard) == 32 * 4


def test_a_round_for_reading_travels_while_the_folder_is_held(folder: Folder) -> None:
    """Tasks on other nodes read shards; the lock, on a store a thread that renews a lease, stays here."""
    run_dir = RunDir(folder)
    with run_dir.lock():
        run_dir.round(3).commit("sampling", {}, rows=7)
        reader = pickle.loads(pickle.dumps(run_dir.round(3).for_reading()))
        assert reader.index == 3
        assert reader.committed("sampling") == {"files": {}, "rows": 7}


def test_inputs_that_changed_are_named_and_new_checksums_do_not_stop_an_old_run(tmp_path: Path) -> None:
    run = begun(tmp_path)
    run.keep_inputs({"model_sha256": "a", "train_prompts": "b"})
    run.keep_inputs({"model_sha256": "a", "train_prompts": "b", "prompt_tokens": "c"})
    with pytest.raises(RunFolderError, match="prompt_tokens changed since the run began") as caught:
        run.keep_inputs({"model_sha256": "a", "train_prompts": "b", "prompt_tokens": "d"})
    assert "--fork" in caught.value.remedy and caught.value.exit_code == 2
    with pytest.raises(RunFolderError, match="model_sha256 changed") as caught:
        run.keep_inputs({"model_sha256": "z"})
    assert "--fork" not in caught.value.remedy, "adapters do not fit another model"
    assert run.info["inputs"] == {"model_sha256": "a", "train_prompts": "b", "prompt_tokens": "c"}


def test_the_day_of_a_run_is_the_one_on_which_it_was_made(folder: Folder) -> None:
    """A run of a version that did not keep it was made when its first attempt started; one that is not there, today."""
    today = datetime.datetime.now(datetime.UTC).date()
    run_dir = RunDir(folder)
    assert run_dir.date == today
    run_dir.open(make_config().to_dict())
    assert run_dir.info["date"] == str(today)
    run_dir.update_info(date="2026-03-09")
    RunDir(folder).open(make_config().to_dict())
    assert RunDir(folder).date == datetime.date(2026, 3, 9)
    run_dir.update_info(date=None, attempts=[{"started": "2025-12-31T23:59:59+00:00"}, {"started": "2026-01-02"}])
    assert RunDir(folder).date == datetime.date(2025, 12, 31)


@pytest.mark.parametrize("name", ["../outside", "adapter/../../outside", "/etc/hostname"])
def test_a_commit_that_names_a_file_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    """Whatever lies there, and whether it is what the commit says."""
    run_dir = begun(tmp_path / "run")
    (tmp_path / "run" / "rounds" / "outside").write_bytes(b"x")
    facts = write_file(tmp_path / "x", b"x")
    run_dir.round(1).commit("adapter", {name: facts})
    with pytest.raises(RunFolderError, match="outside of its round's folder"):
        run_dir.round(1).committed("adapter")
