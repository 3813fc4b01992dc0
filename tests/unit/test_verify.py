"""`rayalign verify`: every damaged file of a run is named, repaired or set aside, and made again by a resume."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rayalign import cli
from rayalign.loop.run import run_rounds
from rayalign.store.files import write_file, write_json
from rayalign.store.round_dir import sealed
from rayalign.store.run_dir import RunDir
from rayalign.store.verify import SET_ASIDE, Finding, findings, mend, repair
from tests.fakes import Fuse, Killed, make_config, make_run

CONFIG = make_config(run={"name": "fake", "rounds": 2})
ROUNDS = 2


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def remove(file: Path) -> None:
    file.unlink()


def shut(file: Path) -> None:
    """A folder in a file's place cannot be read by root either."""
    file.unlink()
    file.mkdir()


DAMAGES: list[Callable[[Path], None]] = [flip, truncate, remove, shut]


def results(root: Path) -> list[tuple[Any, ...]]:
    """What the rounds made and measured."""
    rounds = RunDir(root).rounds()
    reports = [one.report() or {} for one in rounds]
    adapters = [(one.known_commits().get("adapter") or {}).get("adapter") for one in rounds]
    return [(one["metrics"], one["trust"], made) for one, made in zip(reports, adapters, strict=True)]


def fates(found: list[Finding]) -> set[str]:
    return {one.fate for one in found}


def resume(root: Path) -> None:
    mend(RunDir(root), lambda _: None)
    run_rounds(make_run(root, CONFIG))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole") / "run"
    run_rounds(make_run(root, CONFIG))
    return root


def committed_files(root: Path) -> list[str]:
    """All files of rounds, commits among them, relative to the run."""
    return sorted(str(file.relative_to(root)) for file in (root / "rounds").rglob("*") if file.is_file())


def some_of(files: list[str], damage: Callable[[Path], None]) -> list[str]:
    """All of them for one kind of damage, a few for the others, which are treated alike."""
    return files if damage is flip else files[::5]


def test_a_whole_run_is_whole(whole: Path) -> None:
    assert findings(RunDir(whole)) == []
    assert findings(RunDir(whole), whole=False) == []


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda one: one.__name__)
def test_every_file_of_finished_rounds(tmp_path: Path, whole: Path, damage: Callable[[Path], None]) -> None:
    """One at a time: it is named, and after the repair and a resume the run is what it was, but for what is lost."""
    for number, relative in enumerate(some_of(committed_files(whole), damage)):
        root = tmp_path / str(number)
        shutil.copytree(whole, root)
        damage(root / relative)
        found = findings(RunDir(root))
        if damage is remove and relative == f"rounds/{ROUNDS:04d}/COMMIT.json":
            # Like a run that was killed just before.
            assert found == []
            continue
        assert found, f"{relative} was not missed"
        kind = Path(relative).stem.partition("-")[0] if "/commits/" in relative else Path(relative).parent.name
        if "/commits/" in relative or relative.endswith("COMMIT.json"):
            assert fates(found) == {"restore"}, relative
        elif relative.split("/")[2] in ("prompts.parquet", "samples", "scores", "groups") or (
            kind == "adapter" and "0001" in relative
        ):
            assert fates(found) == {"lost"}, relative
        else:
            assert fates(found) == {"redo"}, relative
        repair(RunDir(root), found)
        run_rounds(make_run(root, CONFIG))
        assert results(root) == results(whole), relative
        if fates(found) != {"lost"}:
            assert findings(RunDir(root)) == [], relative
        shutil.rmtree(root)


@pytest.mark.parametrize("ticks", [5, 14, 23])
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda one: one.__name__)
def test_every_file_of_an_unfinished_round(
    tmp_path: Path, whole: Path, ticks: int, damage: Callable[[Path], None]
) -> None:
    killed = tmp_path / "killed"
    with pytest.raises(Killed):
        run_rounds(make_run(killed, CONFIG, Fuse(ticks)))
    begun = [one for one in RunDir(killed).begun_rounds() if not one.finished]
    files = [file for one in begun for file in committed_files(killed) if f"/{one.index:04d}/" in file]
    for number, relative in enumerate(some_of(files, damage)):
        root = tmp_path / str(number)
        shutil.copytree(killed, root)
        damage(root / relative)
        resume(root)
        assert results(root) == results(whole), relative
        assert findings(RunDir(root)) == [], relative


def test_what_is_set_aside_is_kept(tmp_path: Path, whole: Path) -> None:
    root = tmp_path / "run"
    shutil.copytree(whole, root)
    damaged = root / "rounds/0002/adapter/adapter_model.safetensors"
    flip(damaged)
    content, before = damaged.read_bytes(), set(committed_files(root))
    repair(RunDir(root), findings(RunDir(root)))
    [stamp] = (root / SET_ASIDE).iterdir()
    kept = {str(file.relative_to(stamp)) for file in stamp.rglob("*") if file.is_file()}
    assert (stamp / "rounds/0002/adapter/adapter_model.safetensors").read_bytes() == content
    assert kept | set(committed_files(root)) == before, "nothing is deleted"
    assert {"rounds/0002/COMMIT.json", "rounds/0002/report.json"} <= kept
    assert not any("/0001/" in file or file.startswith("rounds/0002/samples/") for file in kept)


def rewrite(root: Path, relative: str, change: Callable[[list[dict[str, Any]]], None], commit: str) -> None:
    """Change a table and have its commits say so, as one would who means harm."""
    file, folder = root / relative, root / "/".join(relative.split("/")[:2])
    table = pq.read_table(file)
    rows = table.to_pylist()
    change(rows)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), sink)
    facts = write_file(file, sink.getvalue().to_pybytes())
    place = folder / "commits" / f"{commit}.json"
    content = json.loads(place.read_text())
    inside = "/".join(relative.split("/")[2:])
    content["files"][inside] = {**content["files"][inside], **facts}
    write_json(place, sealed(content))
    whole = json.loads((folder / "COMMIT.json").read_text())
    whole["commits"][commit] = sealed(content)
    write_json(folder / "COMMIT.json", whole)


@pytest.mark.parametrize(
    ("relative", "commit", "change", "told"),
    [
        ("rounds/0001/scores/00000.parquet", "train-00000", lambda rows: rows.reverse(), "scores other answers"),
        ("rounds/0001/samples/00000.parquet", "train-00000", lambda rows: rows.pop(), "its commit says"),
        (
            "rounds/0001/samples/00000.parquet",
            "train-00000",
            lambda rows: [row.update(adapter_version=1) for row in rows],
            "answers of adapter [1], its prompts were for 0",
        ),
        (
            "rounds/0001/groups/00000.parquet",
            "groups",
            lambda rows: rows[0].update(response_indices=[99] * len(rows[0]["response_indices"])),
            "1 groups of answers that are not there",
        ),
        (
            "rounds/0001/groups/00000.parquet",
            "groups",
            lambda rows: rows[0].update(prompt_id="0" * 16),
            "groups of 1 prompts that are not the round's",
        ),
        ("rounds/0001/prompts.parquet", "prompts", lambda rows: rows.pop(0), "prompts that are not the round's"),
    ],
)
def test_what_refers_to_what(
    tmp_path: Path, whole: Path, relative: str, commit: str, change: Callable[..., Any], told: str
) -> None:
    """Files that are as their commits say, and do not fit each other."""
    root = tmp_path / "run"
    shutil.copytree(whole, root)
    rewrite(root, relative, change, commit)
    words = " | ".join(map(str, findings(RunDir(root))))
    assert told in words and f"round {int(relative.split('/')[1])}" in words


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("sha256", "0" * 64, "weights are not what its record says"),
        ("parent", 7, "the adapter's parent, round 7, has no adapter"),
    ],
)
def test_an_adapters_record(tmp_path: Path, whole: Path, key: str, value: object, told: str) -> None:
    root = tmp_path / "run"
    shutil.copytree(whole, root)
    place = root / "rounds/0002/commits/adapter.json"
    content = json.loads(place.read_text())
    content["adapter"][key] = value
    write_json(place, sealed(content))
    assert any(told in str(one) for one in findings(RunDir(root)))


def test_a_commit_that_names_files_elsewhere_moves_none(tmp_path: Path, whole: Path) -> None:
    root, secret = tmp_path / "run", tmp_path / "secret"
    shutil.copytree(whole, root)
    secret.write_text("mine")
    place = root / "rounds/0002/commits/evaluation-00000.json"
    content = json.loads(place.read_text())
    content["files"]["../../../secret"] = {"bytes": 1, "sha256": "0"}
    write_json(place, sealed(content))
    found = findings(RunDir(root))
    assert any("../../../secret is outside of its round's folder" in str(one) for one in found)
    repair(RunDir(root), found)
    assert secret.read_text() == "mine"


def test_the_command(tmp_path: Path, whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "run"
    shutil.copytree(whole, root)
    (root / "config.yaml").write_text("run: {name: run, rounds: 2}\n")
    write_json(root / "run.json", {"schema_version": 1, "attempts": []})
    assert cli.exit_code(["verify", str(root)]) == 0
    assert "whole" in capsys.readouterr().out
    flip(root / "rounds/0002/evaluation/scores/00000.parquet")
    assert cli.exit_code(["verify", str(root)]) == 1
    said = capsys.readouterr().out
    assert "round 2: evaluation/scores/00000.parquet has other content" in said and "--repair" in said
    assert cli.exit_code(["verify", str(root), "--json", "--repair"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["repaired"] and [one["fate"] for one in told["found"]] == ["redo"]
    flip(root / "rounds/0001/adapter/adapter_model.safetensors")
    assert cli.exit_code(["verify", str(root), "--repair"]) == 1
    assert "later rounds were built upon it" in capsys.readouterr().out
    with RunDir(root).lock():
        assert cli.exit_code(["verify", str(root), "--repair"]) == 2
