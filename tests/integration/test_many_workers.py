"""A whole run with two generators and two learner workers, one of which is killed each; and its coordinator."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from rayalign.records import JsonObject
from rayalign.store.run_dir import RunDir
from tests.integration.test_run import check_complete, finish, start

pytestmark = [pytest.mark.integration, pytest.mark.slow]
TWO = ["cluster.generators.min=2", "cluster.generators.max=2", "training.workers=2", "objective.alpha=auto"]


def actors(run_dir: RunDir) -> dict[str, JsonObject]:
    """Those of the newest attempt by name, once it has them all."""
    attempts = run_dir.info.get("attempts") or [{}]
    return {one["name"]: one for one in attempts[-1].get("actors", [])}


def process_of(leader: int, title: str) -> int | None:
    """The process of a session whose title begins so."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            titled = (folder / "cmdline").read_text().startswith(title)
            if titled and leader in _ancestors(int(folder.name)):
                return int(folder.name)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return None


def _ancestors(process: int) -> list[int]:
    found = []
    while process > 1:
        process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
        found.append(process)
    return found


def updating(run_dir: RunDir, index: int) -> bool:
    commits = run_dir.round(index).commits()
    return "groups" in commits and "adapter" not in commits


def test_a_coordinator_a_generator_and_a_worker_may_die(
    demo_folder: Path, tmp_path: Path, wait_for: Callable[[Callable[[], bool], float], None]
) -> None:
    run_dir = RunDir(tmp_path / "quickstart")

    def wait(process: subprocess.Popen[str], met: Callable[[], bool]) -> None:
        wait_for(lambda: met() or process.poll() is not None, 600)
        assert process.poll() is None, process.communicate()[0]

    first = start(tmp_path, *TWO)
    wait(first, lambda: updating(run_dir, 1))
    coordinator = process_of(first.pid, "ray::Coordinator")
    assert coordinator is not None
    os.kill(coordinator, signal.SIGKILL)
    output = finish(first, 3)
    assert "coordinator is gone" in output and "the run can be resumed" in output and "Traceback" not in output

    second = start(tmp_path, *TWO)
    wait(second, lambda: len(run_dir.info["attempts"]) == 2 and {"generator-1", "learner-1"} <= actors(run_dir).keys())
    wait(second, lambda: updating(run_dir, 1))
    os.kill(actors(run_dir)["learner-1"]["pid"], signal.SIGKILL)
    wait(second, lambda: bool(run_dir.round(2).committed("prompts")))
    os.kill(actors(run_dir)["generator-1"]["pid"], signal.SIGKILL)
    output = finish(second)
    assert "resuming" in output and "generator-1 died: starting it again" in output and "Traceback" not in output
    check_complete(run_dir)
    logs = run_dir.root.local_path() / "logs"
    assert (logs / "generator-1.log").exists() and (logs / "learner-1.log").exists()
    for index in (1, 2):
        training, groups = (run_dir.round(index).committed(name) for name in ("adapter", "groups"))
        assert training is not None and training["training"]["steps"] > 0
        assert groups is not None and training["training"]["alpha"] == groups["groups"]["stats"]["reward_spread"] > 0
        assert f"round {index} · nca: alpha {training['training']['alpha']:.3g}" in output
