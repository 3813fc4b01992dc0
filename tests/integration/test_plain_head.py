"""The README's three lines: a token, a plain `ray start --head`, and a run that is submitted to it."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from rayalign.store.cache import cache_folder
from rayalign.store.run_dir import RunDir

pytestmark = [pytest.mark.integration, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
PORTS = (6379, 8265, 52365)
"""Of a head, its job server, and the agent that takes jobs."""
SMALL = ["run.name=plain", "run.rounds=1", "prompts.per_round=64", "prompts.holdout=32", "evaluation.responses=2"]


def lines() -> list[str]:
    text = (ROOT / "README.md").read_text().splitlines()
    start = next(place for place, line in enumerate(text) if "ray get-auth-token" in line)
    return [line.strip() for line in text[start : start + 3]]


def taken() -> list[int]:
    found = []
    for port in PORTS:
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                found.append(port)
    return found


@pytest.fixture
def home() -> Iterator[Path]:
    """A home folder of its own; what was started with it is ended. Its path is short: Ray puts sockets below it."""
    folder = Path(tempfile.mkdtemp(prefix="ra-", dir="/tmp"))
    try:
        yield folder
    finally:
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("HOME") == str(folder):
                    process.send_signal(signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


def test_three_lines_submit_a_run(home: Path, demo_folder: Path) -> None:
    if ports := taken():
        pytest.skip(f"another Ray has the ports {ports}")
    token, head, submit = lines()
    changes = shlex.join([word for change in SMALL for word in ("--set", change)])
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    places = {"HOME": str(home), "PATH": path, "RAY_TMPDIR": str(home), "RAYALIGN_CACHE": str(cache_folder())}
    done = subprocess.run(
        ["bash", "-euc", "\n".join([token, head, f"{submit} {changes}"])], cwd=ROOT, env={**clean, **places},
        capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "submitting plain-1" in done.stdout and "round 1 · update" in done.stdout
    kept = home / ".ray" / "auth_token"
    assert kept.read_text().strip() not in done.stdout + done.stderr
    assert [one.index for one in RunDir(home / "runs" / "plain").rounds()] == [0, 1]
