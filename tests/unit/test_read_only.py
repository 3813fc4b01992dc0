"""Finished runs and files in places where nothing can be written: what is in the way and what to do, exit 2."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from rayalign.cli import exit_code
from rayalign.loop.run import run_rounds
from tests.fakes import make_config, make_run


def finished_run(folder: Path) -> Path:
    run_rounds(make_run(folder, make_config(run={"name": "fake", "rounds": 1})))
    return folder


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    """A file system that holds a finished run, `run`, and cannot be written to."""
    place = tmp_path / "locked"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"a file system cannot be mounted here: {mounted.stderr.strip()}")
    try:
        finished_run(place / "run")
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def commands(folder: Path, run: Path, out: Path) -> dict[str, list[str]]:
    """Those that write beside a run's commits, or where they are told to; the scorer would leave a file if asked."""
    (folder / "mark.py").write_text(
        "from pathlib import Path\n\n\ndef score(prompt, response):\n"
        f"    Path({str(folder / 'asked')!r}).touch()\n    return 1.0\n"
    )
    scorer = folder / "again.yaml"
    scorer.write_text(yaml.safe_dump({"scoring": [{"type": "rule", "function": "mark.py:score"}]}))
    rows = folder / "rows.jsonl"
    rows.write_text(json.dumps({"prompt": "Name a fish.", "chosen": "Cod.", "rejected": "Dog."}) + "\n")
    return {
        "report": ["report", str(run)],
        "score": ["score", str(run), "--round", "1", "--scorer", str(scorer)],
        "convert": ["convert", str(rows), "--to", "preference", "--out", str(out)],
    }


def check_refused(arguments: list[str], path: Path, remedy: str, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert exit_code(arguments) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"{path} cannot be made or written to why:" in said and f"remedy: {remedy}" in said
    assert "Traceback" not in said


REMEDIES = {
    "report": "make it writable, or name a copy of the run folder",
    "score": "make it writable, or name a copy of the run folder",
    "convert": "give a place that may be written",
}


def test_a_read_only_place(locked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The copy that the remedy speaks of is taken."""
    run, out = locked / "run", locked / "out.jsonl"
    paths = {"report": run / "report.html", "score": run / "rescored/again/round-0001/train", "convert": out}
    for name, arguments in commands(tmp_path, run, out).items():
        check_refused(arguments, paths[name], REMEDIES[name], capsys)
    assert not (tmp_path / "asked").exists(), "no answer is scored"
    assert exit_code(["show", str(run)]) == 0
    subprocess.run(["cp", "-r", run, tmp_path / "copy"], check=True)
    for arguments in commands(tmp_path, tmp_path / "copy", tmp_path / "out.jsonl").values():
        assert exit_code(arguments) == 0
    assert (tmp_path / "asked").exists()


def test_something_in_the_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, out = finished_run(tmp_path / "run"), tmp_path / "out.jsonl"
    (run / "report.html").unlink(missing_ok=True)
    (run / "report.html").mkdir()
    (run / "rescored").write_text("")
    out.mkdir()
    paths = {"report": run / "report.html", "score": run / "rescored/again/round-0001/train", "convert": out}
    for name, arguments in commands(tmp_path, run, out).items():
        check_refused(arguments, paths[name], REMEDIES[name], capsys)
    assert not (tmp_path / "asked").exists()
