"""One signal while `export --merge` or `convert` is at work: exit 3, in time, and the same command works afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tiny_run import make_base, make_saved_run

LIMIT_S = 10
SIGNALS = [signal.SIGINT, signal.SIGTERM]


def stopped_when(
    begun: Callable[[], object], number: signal.Signals, wait_for: Callable, *command: str
) -> subprocess.CompletedProcess[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "rayalign", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: begun() or process.poll() is not None, 120)
    began = time.monotonic()
    os.kill(process.pid, number)
    out, err = process.communicate(timeout=60)
    assert time.monotonic() - began < LIMIT_S
    assert process.returncode == 3 and "Traceback" not in out + err, out + err
    assert f"stopped by {number.name}" in err and f"rayalign {command[0]}" in err
    return subprocess.run([sys.executable, "-m", "rayalign", *command], capture_output=True, text=True, check=True)


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
def test_a_merged_export(number: signal.Signals, tmp_path: Path, wait_for: Callable) -> None:
    run = make_saved_run(tmp_path / "runs" / "tiny", make_base(tmp_path / "base"))
    to = tmp_path / "to" / "m"
    again = stopped_when(
        lambda: list(to.parent.glob(".m.new-*")), number, wait_for, "export", str(run.root), "--to", str(to), "--merge"
    )
    assert "serve it" in again.stdout and (to / "export.json").is_file()
    assert [path.name for path in to.parent.iterdir()] == ["m"]


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
def test_a_conversion(number: signal.Signals, tmp_path: Path, wait_for: Callable) -> None:
    """While rows are written: what there was under the name stays, and no part of a file is left."""
    source, folder = tmp_path / "rows.jsonl", tmp_path / "out"
    rows = [{"prompt": f"Name {i} animals.", "completion": "cat " * 10} for i in range(200_000)]
    source.write_text("\n".join(map(json.dumps, rows)))
    folder.mkdir()
    again = stopped_when(
        lambda: list(folder.glob(".out.jsonl.*.tmp")), number, wait_for,
        "convert", str(source), "--to", "messages", "--out", str(folder / "out.jsonl"),
    )  # fmt: skip
    assert "200000 rows" in again.stdout
    assert [path.name for path in folder.iterdir()] == ["out.jsonl"]
