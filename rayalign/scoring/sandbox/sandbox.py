"""Untrusted Python code against tests, in a process that can reach nothing and is ended in time.

The walls stand in `sandbox_child.py`: namespaces (network, processes), Landlock (files read-only but for an empty
folder), resource limits, no capabilities. This side starts it, waits, and ends its whole process group.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

CHILD = Path(__file__).with_name("sandbox_child.py")
START_S = 20.0
"""What the interpreter may take to start, on top of the limit: a busy machine is not the code's fault."""


class SandboxError(RuntimeError):
    """The sandbox itself failed: what the code is worth is not known."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run may use."""

    timeout_s: float
    memory_mb: int
    file_mb: int
    processes: int
    network: Literal["none", "host"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Whether each test passed; those that time did not reach did not."""

    passed: list[bool]
    timed_out: bool


def run_tests(code: str, tests: Sequence[str], limits: Limits) -> Outcome:
    """Run each test after the code, each in a fresh copy of the process.

    Raises:
        SandboxError: the machine cannot isolate the code, or the sandbox ended early.
    """
    # Where nobody else writes, and emptied afterwards whatever the code left there.
    with tempfile.TemporaryDirectory(prefix="rayalign-code-", ignore_cleanup_errors=True) as folder:
        job = {"code": code, "tests": list(tests), "folder": folder, **asdict(limits)}
        words, errors, late = _run(json.dumps(job).encode(), folder, limits.timeout_s)
    if words[:1] != ["ready"]:
        refused = [word.removeprefix("refused ") for word in words[:1] if word.startswith("refused ")]
        why = next(iter(refused), f"it said nothing; {errors[-300:].strip()}")
        raise SandboxError(why if not late else f"it was not ready after {START_S:g} s")
    if words[-1] != "end" and not late:
        raise SandboxError(f"it ended after {len(words) - 1} of {len(tests)} tests")
    passed = [word == "1" for word in words[1:] if word != "end"]
    return Outcome([*passed, *[False] * (len(tests) - len(passed))], late)


def _run(job: bytes, folder: str, timeout_s: float) -> tuple[list[str], str, bool]:
    """What the child said, what it complained of, and whether it was ended for taking too long."""
    env = {"HOME": folder, "TMPDIR": folder, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(
            [sys.executable, "-P", "-s", "-B", str(CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=env,
            cwd=folder,
            start_new_session=True,
        )
        assert child.stdin is not None and child.stdout is not None
        with child.stdout:
            try:
                with suppress(BrokenPipeError), child.stdin:
                    child.stdin.write(job)
                said, late = _listen(child.stdout.fileno(), timeout_s)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        errors.seek(0)
        return said.decode().splitlines(), errors.read(100_000).decode(errors="replace"), late


def _listen(descriptor: int, timeout_s: float) -> tuple[bytes, bool]:
    """All that comes until the other end closes, or until it is late; the code's time begins with `ready`."""
    said, deadline = b"", time.monotonic() + START_S
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while (left := deadline - time.monotonic()) > 0:
        if not poll.poll(left * 1000):
            continue
        piece = os.read(descriptor, 4096)
        if not piece:
            return said, False
        if not said:
            deadline = time.monotonic() + timeout_s
        said += piece
    return said, True
