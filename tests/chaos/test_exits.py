"""The driver's process is gone at every moment of a run, one after the other: the run goes on and ends the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.exits import CONFIGS, GONE

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", CONFIGS)
def test_a_process_that_is_gone_at_any_moment_loses_nothing(name: str, tmp_path: Path) -> None:
    step = os.environ.get("RAYALIGN_CHAOS_STEP", "1")
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos.exits", str(tmp_path), name, step],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["moments"] > 100
    bad = [
        one for one in told["found"]
        if one["ended"] != [GONE, 0] or not (one["same"] and one["keys"] and one["whole"])
    ]  # fmt: skip
    print(f"{name}: {len(told['found'])} of {told['moments']} moments, {len(bad)} lost")
    assert not bad, f"{bad[:5]}\n{done.stderr[-3000:]}"
