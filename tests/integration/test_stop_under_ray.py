"""SIGTERM while Ray is connected: it has a handler of its own, in front of Python's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.integration
WORK = """
import time
import ray
from rayalign import stopping
from rayalign.errors import InterruptedRunError

@stopping.stoppable
def work():
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    print("working", flush=True)
    try:
        stopping.sleep(60)
    finally:
        time.sleep(4)
        print("closed", flush=True)

try:
    work()
except InterruptedRunError as error:
    print(error, flush=True)
stopping.leave(3)
"""


def test_a_stop_may_take_longer_than_ray_gives_a_failing_process() -> None:
    env = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    process = subprocess.Popen([sys.executable, "-c", WORK], stdout=subprocess.PIPE, text=True, env=env)
    assert process.stdout is not None and process.stdout.readline() == "working\n"
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 3 and output.startswith("closed\nstopped by SIGTERM")
