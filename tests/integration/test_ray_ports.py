"""The Ray that a run starts for itself, and a whole run on it: who reaches it, who is let in, and that it ends."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.integration]

QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
LOOPBACK = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
HOST = """
import sys, ray
from rayalign.actors.cluster import connected
with connected() as cluster:
    @ray.remote(num_cpus=0)
    class Actor:
        def address(self):
            return ray.util.get_node_ip_address()
    actor = Actor.remote()
    print(ray.get(actor.address.remote()), ray.get_runtime_context().gcs_address, flush=True)
    sys.stdin.readline()
"""
GUEST = """
import sys
from ray._raylet import GcsClient
try:
    nodes = GcsClient(address=sys.argv[1]).get_all_node_info(timeout=30)
except Exception as error:
    sys.exit(f"refused: {type(error).__name__}: {error}")
print(len(nodes))
"""


def env_of(home: Path) -> dict[str, str]:
    """With no setting of Ray's but its token there."""
    return {key: value for key, value in os.environ.items() if not key.startswith("RAY_")} | {"HOME": str(home)}


def listening(pid: int) -> set[tuple[str, str]]:
    """Of a process and all that it started: which listen, and on which addresses."""
    found: set[tuple[str, str]] = set()
    for one in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            connections = one.net_connections("tcp")
            found |= {(one.name(), here.laddr.ip) for here in connections if here.status == psutil.CONN_LISTEN}
    return found


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ray keeps its token in it."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def host(home: Path) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOST], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env_of(home)
    )
    assert process.stdout is not None
    address, gcs = process.stdout.readline().split()
    yield process, address, gcs
    process.communicate("\n", timeout=60)
    assert process.returncode == 0


def test_all_ports_are_on_loopback(host: tuple[subprocess.Popen[str], str, str]) -> None:
    process, address, gcs = host
    ports = listening(process.pid)
    assert len(ports) > 2
    assert {ip for _, ip in ports} <= LOOPBACK, ports
    assert address == "127.0.0.1" and gcs.startswith("127.0.0.1:")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_whole_run_opens_no_other_port(workers: int, demo_folder: Path, home: Path, tmp_path: Path) -> None:
    """Looked at all the while: generators and scorers start, the learner's workers meet, and all work."""
    settings = [
        f"run.dir={tmp_path}", "run.rounds=1", "prompts.per_round=32", "prompts.holdout=8", "sampling.responses=4",
        "evaluation.responses=1", f"training.workers={workers}",
    ]  # fmt: skip
    command = [sys.executable, "-m", "rayalign", "run", str(QUICKSTART)]
    command += [word for setting in settings for word in ("--set", setting)]
    ports: set[tuple[str, str]] = set()
    with (tmp_path / "out").open("w") as out:
        process = subprocess.Popen(command, env=env_of(home), stdout=out, stderr=out)
        while process.poll() is None:
            ports |= listening(process.pid)
            time.sleep(0.3)
    assert process.returncode == 0, (tmp_path / "out").read_text()[-3000:]
    assert {"raylet", "gcs_server"} <= {name for name, _ in ports}
    assert any(name.startswith("ray::") for name, _ in ports), "its actors have ports too"
    assert {ip for _, ip in ports} <= LOOPBACK, ports


STOPPED = """
import os, signal, time, ray
from rayalign.actors.cluster import connected
with connected():
    @ray.remote(num_cpus=0)
    class Actor:
        def pid(self):
            return os.getpid()
    actor = Actor.remote()
    pid = ray.get(actor.pid.remote())
    os.kill(pid, signal.SIGSTOP)
print(pid)
"""


def test_a_worker_that_does_not_end_with_its_ray_is_ended(home: Path) -> None:
    """Stopped, it does nothing that it is told, as one that hangs in its last lines."""
    done = subprocess.run(
        [sys.executable, "-c", STOPPED], env=env_of(home), capture_output=True, text=True, timeout=170, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert not psutil.pid_exists(int(done.stdout.split()[-1]))


@pytest.mark.parametrize("token", ["none", "another", "its own"])
def test_only_who_has_the_token_is_let_in(host: tuple[subprocess.Popen[str], str, str], home: Path, token: str) -> None:
    known = (home / ".ray" / "auth_token").read_text()
    env = (
        env_of(home)
        | {
            "none": {"RAY_AUTH_MODE": "disabled"},
            "another": {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64},
            "its own": {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": known},
        }[token]
    )
    done = subprocess.run(
        [sys.executable, "-c", GUEST, host[2]], env=env, capture_output=True, text=True, timeout=170, check=False
    )
    if token == "its own":
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.strip() == "1"
    else:
        assert done.returncode == 1
        assert "refused: AuthenticationError" in done.stderr
