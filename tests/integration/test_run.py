"""Whole runs through the command line, killed and resumed."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from safetensors.torch import load, load_file

from rayalign.records import FULL_CONFIG, FULL_WEIGHTS
from rayalign.store.held_out import read_held_out
from rayalign.store.run_dir import RunDir
from rayalign.store.tables import read_parquet

pytestmark = pytest.mark.integration
QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
SMALL = [
    "run.rounds=2", "prompts.per_round=64", "prompts.holdout=32", "sampling.responses=4", "sampling.max_tokens=32",
    "evaluation.responses=2",
]  # fmt: skip
STOPPED_AT = "rounds/0000/COMMIT.json"
KILLED_AT = ["rounds/0001/commits/train-00000.json", "rounds/0001/commits/adapter.json"]
ENDED_AT = {STOPPED_AT: signal.SIGTERM, **dict.fromkeys(KILLED_AT, signal.SIGKILL)}
"""In the order of the run."""


def command(folder: Path, *settings: str) -> list[str]:
    overrides = [f"run.dir={folder}", *SMALL, *settings]
    return [sys.executable, "-m", "rayalign", "run", str(QUICKSTART)] + [x for s in overrides for x in ("--set", s)]


def start(folder: Path, *settings: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(folder, *settings), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    output, _ = process.communicate(timeout=900)
    assert process.returncode == code, output
    return output


def check_complete(run_dir: RunDir) -> None:
    """Every round finished, every (prompt, index) once, every file as committed."""
    assert [r.index for r in run_dir.rounds()] == [0, 1, 2]
    for round_dir in run_dir.rounds():
        for name in round_dir.commits():
            round_dir.committed(name)
    for index in (1, 2):
        folder = run_dir.round(index).root / "samples"
        rows = [row for name in folder.names() for row in read_parquet(folder / name)]
        keys = [(row["prompt_id"], row["index"]) for row in rows]
        assert len(keys) == len(set(keys)) == 64 * 4
        assert {row["adapter_version"] for row in rows} == {index - 1}


def adapters(run_dir: RunDir) -> list[str]:
    return [json.loads((r.root / "COMMIT.json").read_text())["adapter_sha256"] for r in run_dir.rounds()]


@dataclass(frozen=True)
class Ended:
    """How one process of a run ended, and what was there then."""

    code: int
    output: str
    rounds: int
    """Finished ones, the one without training included."""

    first_finished: bool


def end(run_dir: RunDir, file: str, how: signal.Signals, wait_for: Callable) -> Ended:
    """Start the run, or resume it, and end it once this file is there."""
    folder = run_dir.root.local_path()
    process = start(folder.parent)
    wait_for(lambda: (folder / file).exists() or process.poll() is not None, 900)
    if how == signal.SIGKILL:
        os.killpg(process.pid, how)
    else:
        process.send_signal(how)
    output, _ = process.communicate(timeout=900)
    return Ended(process.returncode, output, len(run_dir.rounds()), run_dir.round(1).finished)


@pytest.fixture(scope="module")
def undisturbed(demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, subprocess.Popen]]:
    """A run of two rounds in its folder. It goes on while `interrupted` is made, as neither keeps two cores busy."""
    folder = tmp_path_factory.mktemp("undisturbed")
    process = start(folder)
    yield folder / "quickstart", process
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=900)


@pytest.fixture(scope="module")
def whole(undisturbed: tuple[Path, subprocess.Popen]) -> RunDir:
    """The undisturbed run, finished."""
    folder, process = undisturbed
    output = finish(process)
    assert "report:" in output and "Traceback" not in output
    return RunDir(folder)


@pytest.fixture(scope="module")
def interrupted(
    undisturbed: tuple[Path, subprocess.Popen], tmp_path_factory: pytest.TempPathFactory, wait_for: Callable
) -> tuple[RunDir, dict[str, Ended], str]:
    """The same run in a folder of its own, ended at each of `ENDED_AT` in turn and then left to finish.

    Returns:
        The folder, how the process ended at each moment, and the output of the last one.
    """
    run_dir = RunDir(tmp_path_factory.mktemp("interrupted") / "quickstart")
    ended = {file: end(run_dir, file, how, wait_for) for file, how in ENDED_AT.items()}
    return run_dir, ended, finish(start(run_dir.root.local_path().parent))


@pytest.mark.parametrize("moment", KILLED_AT)
def test_killed_between_two_stages_and_resumed(interrupted: tuple, whole: RunDir, moment: str) -> None:
    run_dir, ended, last_output = interrupted
    assert ended[moment].code == -signal.SIGKILL, ended[moment].output
    assert ended[moment].rounds < 3
    outputs = [*(one.output for one in ended.values()), last_output]
    assert "resuming" in outputs[list(ended).index(moment) + 1]
    check_complete(run_dir)
    for index in (1, 2):
        for file in (whole.round(index).root.local_path() / "samples").glob("*.parquet"):
            tokens = [row["token_ids"] for row in read_parquet(file)]
            assert [r["token_ids"] for r in read_parquet(run_dir.round(index).root / "samples" / file.name)] == tokens


def test_sigterm_stops_in_order(interrupted: tuple) -> None:
    stopped = interrupted[1][STOPPED_AT]
    assert stopped.code == 3, stopped.output
    assert "stopped by SIGTERM" in stopped.output
    assert "Traceback" not in stopped.output
    assert not stopped.first_finished


def test_two_rounds(whole: RunDir) -> None:
    check_complete(whole)
    page = (whole.root / "report.html").read_text()
    assert "<svg" in page and "http://" not in page.replace("http://www.w3.org", "")
    events = [json.loads(line) for line in (whole.root / "metrics.jsonl").read_text().splitlines()]
    assert [e["round"] for e in events if e["event"] == "round"] == [0, 1, 2]
    report = whole.round(2).report()
    assert report is not None
    assert report["metrics"]["mean_reward"]["value"] > whole.round(0).report()["metrics"]["mean_reward"]["value"]
    assert report["sync"]["canary_gap"] < 0.001 < report["sync"]["moved"]
    evaluated = {row.sample.prompt_id for row in whole.round(0).read_shard("evaluation", 0) or []}
    assert evaluated <= {prompt.id for prompt in read_held_out(whole.root) if prompt.text}
    assert {actor["name"] for actor in whole.info["attempts"][0]["actors"]} == {"generator-0", "scorer-0", "learner-0"}


@pytest.mark.slow
def test_deterministic_runs_give_the_same_adapters_byte_for_byte(demo_folder: Path, tmp_path: Path) -> None:
    finish(start(tmp_path / "a", "loop.deterministic=true"))
    finish(start(tmp_path / "b", "loop.deterministic=true"))
    assert adapters(RunDir(tmp_path / "a" / "quickstart")) == adapters(RunDir(tmp_path / "b" / "quickstart"))


@pytest.mark.slow
def test_all_weights_trained_killed_and_resumed(demo_folder: Path, tmp_path: Path, wait_for: Callable) -> None:
    """The generator serves just the weights that were committed before the kill, and the base is the base again."""
    settings = ["run.rounds=1", "model.full=true", "training.learning_rate=1.0e-4"]
    process = start(tmp_path, *settings)
    one = RunDir(tmp_path / "quickstart").round(1)
    commit = one.root.local_path() / "commits" / "adapter.json"
    wait_for(lambda: commit.exists() or process.poll() is not None, 900)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not one.finished
    found = one.adapter()
    assert found is not None and found.files is not None
    before, files = found.record, found.files.files
    assert set(files) == {FULL_CONFIG, FULL_WEIGHTS}
    output = finish(start(tmp_path, *settings))
    assert "resuming" in output and "Traceback" not in output
    assert one.commit_facts()["adapter_sha256"] == before.sha256 == hashlib.sha256(files[FULL_WEIGHTS]).hexdigest()
    report = one.report()
    assert report is not None
    assert report["sync"]["version"] == 1
    assert max(report["sync"]["canary_gap"], report["sync"]["base_gap"]) < 1e-4
    assert report["sync"]["moved"] > 0.01
    assert report["metrics"]["kl_base"]["value"] > 0.01
    base = load_file(demo_folder / FULL_WEIGHTS)
    trained = load(files[FULL_WEIGHTS])
    assert trained.keys() == base.keys()
    assert all(not (trained[name] == base[name]).all() for name in base)
