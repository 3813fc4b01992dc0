"""Ray nodes as child processes of a test: started with a token, ended by their process groups."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tests.processes import free_port
from tests.terminal import command_line

CPUS = 2


class RayNodes:
    """A cluster on loopback. `private` nodes get a mount namespace with an empty folder over one path.

    Args:
        folder: state of the cluster; its path must be short (Ray puts sockets below it).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.token = folder / "token"
        self.token.write_text(secrets.token_hex(16))
        self.token.chmod(0o600)
        self._gcs, self._dashboard = free_port(), free_port()
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._dashboard}"

    @property
    def gcs(self) -> str:
        return f"127.0.0.1:{self._gcs}"

    @property
    def env(self) -> dict[str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token)}
        return {**clean, **quiet, "PATH": path}

    def start_head(self) -> subprocess.Popen[bytes]:
        head = self._start(
            [
                *("--head", f"--port={self._gcs}", "--node-ip-address=127.0.0.1", "--include-dashboard=true"),
                *("--dashboard-host=127.0.0.1", f"--dashboard-port={self._dashboard}", f"--temp-dir={self.folder}"),
                # Jobs go through the agent; its usual port may belong to another Ray on this machine.
                f"--dashboard-agent-listen-port={free_port()}",
            ]
        )
        self._wait_for_port(self._dashboard)
        return head

    def start_node(self, hidden: Path | None = None) -> subprocess.Popen[bytes]:
        """Start a worker node; it sees an empty folder at `hidden`, where one is given (needs root)."""
        return self._start([f"--address={self.gcs}"], hidden)

    def drain(self, node: subprocess.Popen[bytes], seconds: int) -> None:
        """Tell the cluster that a node will be gone in so many seconds, as a cloud's notice does."""
        [name] = [
            word.removeprefix("--node_id=")
            for process in psutil.Process(node.pid).children(recursive=True)
            for word in command_line(process)
            if word.startswith("--node_id=")
        ]
        command = [sys.executable, "-m", "ray.scripts.scripts", "drain-node", f"--address={self.gcs}"]
        command += [f"--node-id={name}", f"--deadline-remaining-seconds={seconds}"]
        command += ["--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=a test"]
        subprocess.run(command, env=self.env, check=True, capture_output=True, timeout=60)

    def kill(self, node: subprocess.Popen[bytes]) -> None:
        """End a node at once, as a lost machine does."""
        for process in [*psutil.Process(node.pid).children(recursive=True), psutil.Process(node.pid)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        node.wait()

    def actors(self, kind: str) -> list[psutil.Process]:
        """The processes of all actors of a class."""
        alive = [psutil.Process(node.pid) for node in self._processes if node.poll() is None]
        below = [process for node in alive for process in node.children(recursive=True)]
        return [process for process in below if any(f"ray::{kind}" in word for word in command_line(process))]

    def stop(self) -> None:
        for node in reversed(self._processes):
            if node.poll() is None:
                self.kill(node)
        # What a raylet started in a session of its own (job supervisors' entry points) holds the token's path.
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("RAY_AUTH_TOKEN_PATH") == str(self.token) and process.pid != os.getpid():
                    process.send_signal(signal.SIGKILL)

    def _start(self, arguments: list[str], hidden: Path | None = None) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
        command += [f"--num-cpus={CPUS}", "--object-store-memory=200000000", *arguments]
        if hidden is not None:
            hide = 'mount -t tmpfs tmpfs "$0" && exec "$@"'
            command = ["unshare", "--mount", "sh", "-c", hide, str(hidden), *command]
        with (self.folder / f"node{len(self._processes)}.log").open("wb") as log:
            node = subprocess.Popen(command, env=self.env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        self._processes.append(node)
        return node

    def _wait_for_port(self, port: int) -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return
            assert self._processes[0].poll() is None, (self.folder / "node0.log").read_text()[-2000:]
            time.sleep(0.5)
        raise AssertionError("the head did not come up")
