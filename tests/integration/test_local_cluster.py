"""cluster/local for real: two Ray nodes on this machine, a job from outside, a killed node, and nothing left."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCAL = ROOT / "cluster" / "local"
RAY = Path(sys.executable).with_name("ray")
NAME = "ratest"
DASHBOARD = "http://10.231.79.10:8265"

pytestmark = [pytest.mark.slow, pytest.mark.integration]

PRINT_NODES = "import ray; ray.init(); print(*sorted(n['NodeManagerAddress'] for n in ray.nodes() if n['Alive']))"


def why_not() -> str | None:
    """Why this machine cannot make network namespaces; None where it can."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "needs root"
    if missing := [tool for tool in ("ip", "setsid", "setpriv") if not shutil.which(tool)]:
        return f"needs {', '.join(missing)}"
    tried = subprocess.run(["ip", "netns", "add", f"{NAME}-try"], capture_output=True, text=True)
    if tried.returncode == 0:
        pair = ["ip", "link", "add", f"{NAME}-try", "type", "veth", "peer", "name", "eth0", "netns", f"{NAME}-try"]
        tried = subprocess.run(pair, capture_output=True, text=True)
        subprocess.run(["ip", "link", "del", f"{NAME}-try"], capture_output=True)
        subprocess.run(["ip", "netns", "del", f"{NAME}-try"], capture_output=True)
    return f"network namespaces cannot be made: {tried.stderr.strip()}" if tried.returncode else None


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    if reason := why_not():
        pytest.skip(reason)
    state = tmp_path_factory.mktemp("cluster") / "state"
    plain = {key: value for key, value in os.environ.items() if not key.startswith(("RAY", "SUDO_"))}
    return plain | {
        "RAY": str(RAY),
        "RAYALIGN_CLUSTER": NAME,
        "RAYALIGN_CLUSTER_SUBNET": "10.231.79.0/24",
        "RAYALIGN_CLUSTER_STATE": str(state),
        "NO_PROXY": "10.231.79.10",
        "no_proxy": "10.231.79.10",
    }


Script = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def script(environment: dict[str, str]) -> Iterator[Script]:
    def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [LOCAL / name, *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400)

    yield run
    run("down.sh")


def submit(environment: dict[str, str], mode: str, token_file: Path) -> subprocess.CompletedProcess[str]:
    """What `ray job submit` gives from outside the cluster."""
    auth = {"RAY_AUTH_MODE": mode, "RAY_AUTH_TOKEN_PATH": str(token_file)}
    command = [str(RAY), "job", "submit", "--address", DASHBOARD, "--", "python", "-c", PRINT_NODES]
    return subprocess.run(command, env=environment | auth, capture_output=True, text=True, timeout=200)


def alive(token: str) -> set[str]:
    request = urllib.request.Request(f"{DASHBOARD}/api/v0/nodes", headers={"Authorization": f"Bearer {token}"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=10) as answer:
        rows = json.load(answer)["data"]["result"]["result"]
    return {row["node_ip"] for row in rows if row["state"] == "ALIVE"}


def left_behind() -> list[str]:
    namespaces = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    links = subprocess.run(["ip", "-o", "link", "show"], capture_output=True, text=True, check=True).stdout
    found = [line for line in (namespaces + links).splitlines() if f"{NAME}-" in line]
    found += [str(path) for path in Path("/tmp").glob(f"{NAME}-n*")]
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if f"/tmp/{NAME}-n" in words:
            found.append(f"process {folder.name}: {words[:80]}")
    return found


def test_local_cluster(
    script: Script, environment: dict[str, str], wait_for: Callable[[Callable[[], object], float], None]
) -> None:
    state = Path(environment["RAYALIGN_CLUSTER_STATE"])
    up = script("up.sh")
    assert up.returncode == 0, up.stderr
    token_file = state / "auth_token"
    assert token_file.stat().st_mode & 0o777 == 0o600
    token = token_file.read_text()
    assert f"export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH={token_file}" in up.stdout
    assert f"rayalign submit configs/quickstart.yaml --address {DASHBOARD}" in up.stdout

    again = script("up.sh")
    assert again.returncode == 2 and "already up" in again.stderr

    job = submit(environment, "token", token_file)
    assert job.returncode == 0, job.stdout + job.stderr
    assert "10.231.79.10 10.231.79.11" in job.stdout

    refused = submit(environment, "disabled", token_file)
    assert refused.returncode != 0 and "Missing authentication token" in refused.stdout + refused.stderr
    with pytest.raises(urllib.error.HTTPError, match=r"403|401"):
        alive("not the token")

    assert script("up.sh", "--node").returncode == 0
    wait_for(lambda: "10.231.79.12" in alive(token), 60)
    killed = script("down.sh", "--node", "1")
    assert killed.returncode == 0, killed.stderr
    wait_for(lambda: alive(token) == {"10.231.79.10", "10.231.79.12"}, 120)

    down = script("down.sh")
    assert down.returncode == 0, down.stderr
    assert left_behind() == []
    assert not state.exists()
    nothing = script("down.sh")
    assert nothing.returncode == 0 and "nothing to do" in nothing.stdout
