"""A driver whose Ray is gone says so, and ends with the code of a run that can be resumed."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from tests.integration.ray_nodes import RayNodes

pytestmark = [pytest.mark.slow, pytest.mark.integration]

QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
SMALL = ["run.rounds=100", "prompts.per_round=32", "prompts.holdout=8", "sampling.responses=2"]


@pytest.mark.parametrize("lost", ["its machine", "the head's control service"])
def test_the_driver_says_so_and_can_be_resumed(lost: str, demo_folder: Path, tmp_path: Path) -> None:
    settings = [word for one in (f"run.dir={tmp_path}", *SMALL) for word in ("--set", one)]
    with tempfile.TemporaryDirectory(prefix="ra-lost-", dir="/tmp", ignore_cleanup_errors=True) as state:
        nodes = RayNodes(Path(state))
        head = nodes.start_head()
        try:
            with (tmp_path / "out").open("w") as out:
                driver = subprocess.Popen(
                    [sys.executable, "-m", "rayalign", "run", str(QUICKSTART), *settings],
                    env={**nodes.env, "RAY_ADDRESS": nodes.gcs}, stdout=out, stderr=out,
                )  # fmt: skip
            while driver.poll() is None and not (tmp_path / "quickstart/rounds/0001/COMMIT.json").exists():
                time.sleep(0.2)
            if lost == "its machine":
                nodes.kill(head)
            else:
                below = psutil.Process(head.pid).children(recursive=True)
                [service] = [one for one in below if one.name() == "gcs_server"]
                service.kill()
            assert driver.wait(timeout=120) == 3, (tmp_path / "out").read_text()[-3000:]
        finally:
            nodes.stop()
    said = (tmp_path / "out").read_text()
    # Ray ends the other processes of a head's machine with its control service.
    assert "Ray's processes on this machine have ended" in said
    assert "start Ray there again, then run the same command again to go on: " in said
