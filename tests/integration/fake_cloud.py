"""Ray's own autoscaler over a cloud that is this machine: a node that it brings is a raylet more."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import psutil

from tests.processes import free_port
from tests.terminal import command_line

HEAD_ID = "f" * 51 + "00000"
HEAD_TYPE = "ray.head.default"
PROVIDER = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
"""Named as a module, as Ray leaves the file of its own name for it out of its package."""
MARK = "RAYALIGN_FAKE_CLOUD"
LISTS = ["cluster_synced_files", "initialization_commands", "setup_commands", "head_setup_commands"]
LISTS += ["worker_setup_commands", "head_start_ray_commands", "worker_start_ray_commands"]
"""What Ray wants to find in a cluster's file, and this cloud has no use for."""


class FakeCloud:
    """A head, and node types of which none runs until something asks for it.

    Args:
        folder: state of the cluster; its path must be short (Ray puts sockets below it).
        types: resources, labels and `max_workers` of each node type.
        idle_s: after so long without use a node goes.
    """

    def __init__(self, folder: Path, types: dict[str, dict[str, Any]], idle_s: float) -> None:
        self._folder, self._mark, self._gcs = folder, uuid.uuid4().hex, free_port()
        self._head: subprocess.Popen[bytes] | None = None
        head = {"resources": {"CPU": 2}, "node_config": {}, "max_workers": 0}
        workers = {name: {"min_workers": 0, "node_config": {}, **kind} for name, kind in types.items()}
        provider = {"type": "external", "module": PROVIDER, "launch_multiple": True, "head_node_id": HEAD_ID}
        provider |= {"gcs_address": self.address, "disable_node_updaters": True, "disable_launch_config_check": True}
        self._config = {
            **{"cluster_name": "fake", "max_workers": 8, "upscaling_speed": 8.0, "idle_timeout_minutes": idle_s / 60},
            **{"provider": provider, "auth": {}, "docker": {}, "head_node_type": HEAD_TYPE, "file_mounts": {}},
            **{key: [] for key in LISTS},
            "available_node_types": {HEAD_TYPE: head, **workers},
        }

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._gcs}"

    @property
    def env(self) -> dict[str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled", "RAY_ADDRESS": self.address}
        return {**clean, **quiet, "PATH": path}

    def start(self) -> None:
        file = self._folder / "cloud.json"
        file.write_text(json.dumps(self._config))
        cloud = {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1", MARK: self._mark}
        cloud |= {"RAY_enable_autoscaler_v2": "1", "RAY_CLOUD_INSTANCE_ID": HEAD_ID, "RAY_NODE_TYPE_NAME": HEAD_TYPE}
        cloud |= {"RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID}
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"]
        command += [f"--port={self._gcs}", "--node-ip-address=127.0.0.1", f"--temp-dir={self._folder}", "--num-cpus=2"]
        command += ["--include-dashboard=false", "--object-store-memory=200000000", "--labels=rayalign-role=head"]
        command += [f"--autoscaling-config={file}", f"--dashboard-agent-listen-port={free_port()}"]
        env = {name: value for name, value in self.env.items() if name != "RAY_ADDRESS"} | cloud
        with (self._folder / "head.log").open("wb") as log:
            self._head = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 120
        while b"Ray runtime started" not in (self._folder / "head.log").read_bytes():
            assert self._head.poll() is None and time.monotonic() < deadline, (self._folder / "head.log").read_text()
            time.sleep(0.5)

    def nodes(self, kind: str) -> list[psutil.Process]:
        """The raylets of all nodes of a type."""
        return [p for p in self._processes() if p.name() == "raylet" and _of_type(p) == kind]

    def kill(self, node: psutil.Process) -> None:
        """End a node at once, as a lost machine does."""
        for process in [*node.children(recursive=True), node]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def stop(self) -> None:
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if self._head is not None:
            self._head.wait(20)

    def _processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == self._mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found


def _of_type(raylet: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return raylet.environ().get("RAY_NODE_TYPE_NAME", "")
    return " ".join(command_line(raylet))
