"""cluster/node.sh and cluster/slurm.sbatch for real, with stand-ins for ray, rayalign and Slurm's commands."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NODE, SBATCH = ROOT / "cluster" / "node.sh", ROOT / "cluster" / "slurm.sbatch"
TOKEN = "0123456789abcdef" * 4
STUBS = {
    "ray": """
import os, signal, socket, sys, time
say("ray", *sys.argv[1:], f"[{os.environ['RAY_AUTH_MODE']}]")
if os.environ.get("RAY_FAILS"):
    sys.exit("the port is taken")
if "--head" in sys.argv:
    (port,) = [int(word.removeprefix("--port=")) for word in sys.argv if word.startswith("--port=")]
    server = socket.create_server(("127.0.0.1", port))
time.sleep(20)
""",
    "python": """
import os, sys, time
say("nodes", *sys.argv[2:], os.environ["RAY_ADDRESS"])
if os.environ.get("NO_OTHER"):
    sys.exit("1 of 2 nodes joined")
while not os.environ.get("ALONE") and "ray start --address" not in open(os.environ["CALLS"]).read():
    time.sleep(0.02)
""",
    "rayalign": """
import os, signal, sys, time
say("rayalign", *sys.argv[1:])
def stop(*_):
    say("stopped")
    time.sleep(0.3)
    sys.exit(3)
signal.signal(signal.SIGTERM, stop)
say("running")
time.sleep(float(os.environ.get("RUN_S", 0)))
sys.exit(int(os.environ.get("RUN_CODE", 0)))
""",
    "scontrol": """
import sys
if sys.argv[1] == "show":
    print("one\\ntwo")
else:
    say("scontrol", *sys.argv[1:])
""",
    "hostname": "print('fe80::1 127.0.0.1')",
    "srun": """
import os, subprocess, sys
first = next(i for i, word in enumerate(sys.argv) if i and not word.startswith("--"))
say("srun", *sys.argv[1:first])
sys.exit(subprocess.call(sys.argv[first:], env=os.environ | {"SLURM_PROCID": "0"}))
""",
}
SAY = """#!{python} -S
import os
def say(*words):
    with open(os.environ["CALLS"], "a") as file:
        file.write(" ".join(words) + "\\n")
"""

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    """What the stand-ins were asked, one line a call."""
    (tmp_path / "calls").touch()
    return tmp_path / "calls"


@pytest.fixture
def start(tmp_path: Path, calls: Path) -> Iterator[Start]:
    """Starts a script among the stand-ins; what is left of it is ended after the test."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in STUBS.items():
        (folder / name).write_text(SAY.format(python=sys.executable) + text)
        (folder / name).chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    plain = {key: value for key, value in os.environ.items() if not key.startswith(("RAY", "SLURM"))}
    settings = {"RAYALIGN_BIN": str(folder), "RAYALIGN_PORT": str(port), "RAYALIGN_CPUS": "2", "CALLS": str(calls)}
    settings["RAYALIGN_POLL_S"] = "0.1"
    environment = plain | settings | {"RAY_AUTH_TOKEN": TOKEN, "PATH": f"{folder}:{os.environ['PATH']}"}
    started: list[subprocess.Popen[bytes]] = []

    def run(*command: object, **extra: str) -> subprocess.Popen[bytes]:
        words = [str(word) for word in command]
        with (tmp_path / "errors").open("ab") as errors, (tmp_path / "output").open("ab") as output:
            started.append(
                subprocess.Popen(
                    words, env=environment | extra, stdout=output, stderr=errors, cwd=ROOT, start_new_session=True
                )
            )
        return started[-1]

    yield run
    for process in started:
        # A job's step may go on after it, which Slurm would end.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until(calls: Path, words: str) -> None:
    deadline = time.monotonic() + 30
    while words not in calls.read_text():
        assert time.monotonic() < deadline, calls.read_text()
        time.sleep(0.02)


def end_of(process: subprocess.Popen[bytes]) -> int:
    return process.wait(timeout=40)


@pytest.mark.parametrize("code", [0, 2, 3, 1])
def test_the_cluster_ends_with_the_runs_exit_code(start: Start, calls: Path, code: int) -> None:
    joins = start(NODE, 1, 2, "127.0.0.1", "configs/x.yaml")
    leads = start(NODE, 0, 2, "127.0.0.1", "configs/x.yaml", "--set", "run.name=a b", RUN_CODE=str(code))
    assert end_of(leads) == code
    assert end_of(joins) == 0 and (calls.parent / "errors").read_text() == ""
    lines = calls.read_text().splitlines()
    (head,) = [line for line in lines if line.startswith("ray start --head")]
    (other,) = [line for line in lines if line.startswith("ray start --address=127.0.0.1:")]
    assert "--node-ip-address=127.0.0.1" in head and "--include-dashboard=false" in head
    for line in (head, other):
        assert "--num-cpus=2 --disable-usage-stats --block [token]" in line and TOKEN not in line
    assert any(line.startswith("nodes 2 900 127.0.0.1:") for line in lines)
    assert "rayalign run configs/x.yaml --set run.name=a b" in lines


def test_sigterm_stops_the_run_once_and_then_the_cluster(start: Start, calls: Path) -> None:
    joins = start(NODE, 1, 2, "127.0.0.1", "c.yaml")
    leads = start(NODE, 0, 2, "127.0.0.1", "c.yaml", RUN_S="60")
    wait_until(calls, "running")
    for process in (joins, leads):
        os.killpg(process.pid, signal.SIGTERM)
    assert end_of(leads) == 3 and end_of(joins) == 0
    assert calls.read_text().count("stopped") == 1


def test_nodes_that_do_not_come_are_exit_code_3(start: Start, calls: Path) -> None:
    leads = start(NODE, 0, 2, "127.0.0.1", "c.yaml", NO_OTHER="1")
    assert end_of(leads) == 3 and "rayalign run" not in calls.read_text()


@pytest.mark.parametrize("rank", [0, 1])
def test_ray_that_does_not_start_is_told(start: Start, calls: Path, rank: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        other = {} if rank == 0 else {"RAYALIGN_PORT": str(server.getsockname()[1])}
        assert end_of(start(NODE, rank, 2, "127.0.0.1", "c.yaml", RAY_FAILS="1", **other)) == 1
    errors = (calls.parent / "errors").read_text()
    assert "the port is taken" in errors and f"ray start ended on node {rank}" in errors


@pytest.mark.parametrize(
    ("arguments", "extra", "found"),
    [
        ((0, 2, "127.0.0.1"), {}, "node.sh got 3 arguments"),
        ((2, 2, "127.0.0.1", "c.yaml"), {}, "node 2 of 2"),
        ((0, "two", "127.0.0.1", "c.yaml"), {}, "node 0 of two"),
        ((0, 1, "127.0.0.1", "c.yaml"), {"RAY_AUTH_TOKEN": ""}, "RAY_AUTH_TOKEN is not set"),
        ((0, 1, "127.0.0.1", "c.yaml"), {"RAYALIGN_BIN": "/nowhere"}, "there is no /nowhere/ray"),
        ((1, 2, "127.0.0.1", "c.yaml"), {"RAYALIGN_START_S": "1"}, "node 1 does not reach 127.0.0.1:"),
    ],
)
def test_bad_input_is_exit_code_2(
    start: Start, calls: Path, arguments: tuple[object, ...], extra: dict[str, str], found: str
) -> None:
    assert end_of(start(NODE, *arguments, **extra)) == 2
    errors = (calls.parent / "errors").read_text()
    assert errors.startswith(f"error: {found}") and "\n  remedy: " in errors


JOB = {"SLURM_SUBMIT_DIR": str(ROOT), "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_NODELIST": "n[1-2]"}
JOB |= {"SLURM_JOB_ID": "4711", "SLURM_CPUS_PER_TASK": "3"}


@pytest.mark.parametrize("code", [0, 2, 3])
def test_slurm_job_ends_with_the_runs_exit_code(start: Start, calls: Path, code: int) -> None:
    job = start("bash", SBATCH, "c.yaml", "--set", "run.rounds=1", **JOB, RUN_CODE=str(code))
    assert end_of(job) == code
    lines = calls.read_text().splitlines()
    assert "rayalign run c.yaml --set run.rounds=1" in lines
    assert any(line.startswith("ray start --head --node-ip-address=127.0.0.1 --port=24711") for line in lines)
    assert any(line.startswith("ray start --address=127.0.0.1:24711 --num-cpus=3") for line in lines)
    assert "srun --nodes=1 --ntasks=1 --ntasks-per-node=1 --exclude=one --cpus-per-task=3" in lines
    assert not any(line.startswith("scontrol") for line in lines)


def test_slurm_job_on_one_node_starts_no_step(start: Start, calls: Path) -> None:
    job = start("bash", SBATCH, "c.yaml", **JOB | {"SLURM_JOB_NUM_NODES": "1"}, ALONE="1")
    assert end_of(job) == 0
    assert "nodes 1 900 127.0.0.1:24711" in calls.read_text() and "srun" not in calls.read_text()


def test_slurm_job_that_is_stopped_goes_back_into_the_queue(start: Start, calls: Path) -> None:
    job = start("bash", SBATCH, "c.yaml", **JOB, RUN_S="60")
    wait_until(calls, "running")
    os.kill(job.pid, signal.SIGTERM)
    assert end_of(job) == 3
    assert calls.read_text().splitlines()[-1] == "scontrol requeue 4711"


def test_slurm_job_whose_nodes_do_not_come_is_final(start: Start, calls: Path) -> None:
    job = start("bash", SBATCH, "c.yaml", **JOB, NO_OTHER="1")
    assert end_of(job) == 3
    assert "scontrol requeue" not in calls.read_text()
