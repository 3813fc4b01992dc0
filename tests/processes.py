"""Processes of tests: ranks that meet over a file, and ports that nobody is given in the meantime."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
PORTS = range(20_000, 32_000)
"""Below the ports that the kernel gives to whoever asks for any: a server may bind seconds after the probe."""


def free_port() -> int:
    for port in random.SystemRandom().sample(PORTS, 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("100 ports, all taken")


def run_ranks(module: str, world: int, job: Path, timeout_s: float = 600) -> None:
    """`python -m MODULE RANK WORLD RENDEZVOUS JOB` once a rank; one that fails ends all, with its log."""
    command = [sys.executable, "-m", module]
    logs = [job.parent / f"rank{rank}.log" for rank in range(world)]
    ranks = []
    for rank, log in enumerate(logs):
        arguments = [str(rank), str(world), f"file://{job.parent / 'rendezvous'}", str(job)]
        with log.open("w") as file:
            ranks.append(subprocess.Popen([*command, *arguments], cwd=ROOT, stdout=file, stderr=file,
                                          env={**os.environ, "OMP_NUM_THREADS": "1"}))  # fmt: skip
    try:
        deadline = time.monotonic() + timeout_s
        codes: list[int | None] = [None]
        while None in codes and not any(codes) and time.monotonic() < deadline:
            time.sleep(0.1)
            codes = [process.poll() for process in ranks]
    finally:
        for process in ranks:
            process.kill()
            process.wait()
    assert codes == [0] * world, "\n".join(f"{log.name}: {log.read_text()[-3000:]}" for log in logs)
