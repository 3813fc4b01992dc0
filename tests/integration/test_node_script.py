"""cluster/node.sh with Ray and a run for real: two nodes on this machine."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import free_port

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.integration]


def test_a_run_on_two_nodes_that_come_and_go_with_it(tmp_path: Path) -> None:
    port = free_port()
    plain = {key: value for key, value in os.environ.items() if not key.startswith("RAY")}
    environment = plain | {
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAYALIGN_BIN": str(Path(sys.executable).parent),
        "RAYALIGN_PORT": str(port),
        "RAYALIGN_CPUS": "2",
        "RAYALIGN_START_S": "300",
        "PYTHONPATH": str(ROOT),
    }
    if cache := os.environ.get("RAYALIGN_CACHE"):
        environment["RAYALIGN_CACHE"] = cache
    small = [f"run.dir={tmp_path}", "run.rounds=1", "prompts.per_round=32", "prompts.holdout=32"]
    settings = [word for setting in small for word in ("--set", setting)]
    outputs = [tmp_path / f"node-{rank}" for rank in range(2)]
    nodes = []
    for rank, output in enumerate(outputs):
        command = ["cluster/node.sh", str(rank), "2", "127.0.0.1", "configs/quickstart.yaml", *settings]
        with output.open("wb") as file:
            nodes.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=file))
    try:
        codes = [node.wait(timeout=800) for node in nodes]
    finally:
        for node in nodes:
            node.terminate()
            node.wait()
    said = [output.read_text() for output in outputs]
    assert codes == [0, 0], "\n".join(said)
    assert said[0].startswith("2 nodes: 4 CPUs, 0 GPUs\n")
    assert (tmp_path / "quickstart" / "rounds" / "0001" / "COMMIT.json").is_file()
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=1)
