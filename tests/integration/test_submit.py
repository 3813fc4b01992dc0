"""`rayalign submit` against a real Ray head with token auth, over its job server."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.integration.ray_nodes import RayNodes
from tests.terminal import Terminal

pytestmark = [pytest.mark.integration]
ROOT = Path(__file__).parents[2]
SMALL = {
    "run": {"rounds": 1},
    "model": {"base": "demo"},
    "prompts": {"source": "demo", "per_round": 32, "holdout": 32, "max_tokens": 128},
    "sampling": {"responses": 4, "max_tokens": 32},
    "scoring": [{"type": "rule", "function": "demo"}],
    "objective": {"type": "nca"},
}


@pytest.fixture(scope="module")
def nodes() -> Iterator[RayNodes]:
    folder = Path(tempfile.mkdtemp(prefix="ra-", dir="/tmp"))
    nodes = RayNodes(folder)
    try:
        nodes.start_head()
        yield nodes
    finally:
        nodes.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path)


def make_project(folder: Path) -> Path:
    """A working directory with a config, the package and things that must not travel."""
    shutil.copytree(ROOT / "rayalign", folder / "rayalign", ignore=shutil.ignore_patterns("__pycache__"))
    config = {**SMALL, "run": {"name": folder.name.replace("_", "-")[-40:].strip("-"), "rounds": 1,
                               "dir": str(folder / "runs")}}  # fmt: skip
    (folder / "round.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module", autouse=True)
def asks_for_a_gpu(
    nodes: RayNodes, demo_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[subprocess.Popen[str]]:
    """Started first: the run meets the cluster only after everything that it reads, which takes seconds."""
    project = make_project(tmp_path_factory.mktemp("asks-for-a-gpu"))
    process = begin(nodes, project, "--set", "cluster.generators.gpus=1")
    yield process
    process.kill()
    process.communicate()


def command(nodes: RayNodes, address: str | None = None) -> list[str]:
    return [sys.executable, "-m", "rayalign", "submit", "round.json", "--address", address or nodes.address]


def begin(
    nodes: RayNodes, project: Path, *arguments: str, env: dict[str, str] | None = None, address: str | None = None
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*command(nodes, address), *arguments], cwd=project, env={**nodes.env, **(env or {})}, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    output, error = process.communicate(timeout=600)
    return subprocess.CompletedProcess(process.args, process.returncode, output, error)


def submit(nodes: RayNodes, project: Path, *arguments: str, **where: Any) -> subprocess.CompletedProcess[str]:
    return finish(begin(nodes, project, *arguments, **where))


def test_the_runs_own_exit_code_is_passed_on(nodes: RayNodes, project: Path) -> None:
    done = submit(nodes, project, "--set", "prompts.source=no/such/prompts.jsonl")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "no/such/prompts.jsonl" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_without_the_token_it_is_refused(nodes: RayNodes, project: Path) -> None:
    none = submit(nodes, project, env={"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN_PATH": ""})
    wrong = submit(nodes, project, env={"RAY_AUTH_TOKEN": "0123456789abcdef0123456789abcdef"})
    for refused in (none, wrong):
        assert refused.returncode == 2
        assert "refused the token" in refused.stderr and "RAY_AUTH_TOKEN_PATH" in refused.stderr
        assert "Traceback" not in refused.stderr
    assert "0123456789abcdef" not in wrong.stderr


def test_address_where_nothing_answers(nodes: RayNodes, project: Path) -> None:
    done = submit(nodes, project, address="http://127.0.0.1:9")
    assert done.returncode == 2 and "nothing answers at 127.0.0.1:9" in done.stderr


def test_another_ray_version_is_named_with_ours(nodes: RayNodes, project: Path) -> None:
    import ray

    class OldRay(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            version = {"version": "4", "ray_version": "2.9.3", "ray_commit": "x", "session_name": "s"}
            data = {"data": {"rayVersion": "2.9.3", "pythonVersion": "3.9.1"}}
            body = json.dumps(version if self.path == "/api/version" else data).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing to the console."""

    server = HTTPServer(("127.0.0.1", 0), OldRay)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        done = submit(nodes, project, address=f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
    assert done.returncode == 2
    assert "Ray 2.9.3, here is " + ray.__version__ in done.stderr and "Python 3.9.1, here is 3." in done.stderr


def test_config_outside_the_working_directory(nodes: RayNodes, project: Path, tmp_path_factory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "round.json"
    shutil.copy(project / "round.json", elsewhere)
    words = [sys.executable, "-m", "rayalign", "submit", str(elsewhere), "--address", nodes.address]
    done = subprocess.run(words, cwd=project, env=nodes.env, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "outside the working directory" in done.stderr


def test_secrets_and_run_folders_stay_here(nodes: RayNodes, project: Path) -> None:
    """The entry point is the project's own `rayalign`, so a stand-in there can say what arrived."""
    for name in (".env", "deploy.pem", "auth_token", "runs/old/metrics.jsonl", ".venv/lib.py", "data/prompts.jsonl"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("x")
    lister = "import pathlib; print('ARRIVED', sorted(str(p) for p in pathlib.Path('.').rglob('*') if p.is_file()))"
    main = project / "rayalign" / "__main__.py"
    future = "from __future__ import annotations\n"
    stand_in = f"{future}import sys\nif 'run' in sys.argv:\n    {lister}\n    sys.exit(7)\n"
    main.write_text(main.read_text().replace(future, stand_in))
    done = submit(nodes, project)
    assert done.returncode == 7, done.stdout + done.stderr
    (arrived,) = [line for line in done.stdout.splitlines() if line.startswith("ARRIVED")]
    assert "data/prompts.jsonl" in arrived and "round.json" in arrived
    for name in (".env", "deploy.pem", "auth_token", "metrics.jsonl", ".venv"):
        assert name not in arrived


def test_gpus_that_no_node_type_has(asks_for_a_gpu: subprocess.Popen[str]) -> None:
    done = finish(asks_for_a_gpu)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "asks for 1 GPUs" in done.stdout and "no autoscaler" in done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.slow
def test_submitting_again_joins_and_then_finds_it_done(nodes: RayNodes, project: Path, demo_folder: Path) -> None:
    sent = submit(nodes, project, "--no-wait")
    assert sent.returncode == 0 and "submitting" in sent.stdout
    other = submit(nodes, project, "--set", "run.seed=9")
    assert other.returncode == 2 and "with another config" in other.stderr
    joined = submit(nodes, project)
    assert joined.returncode == 0, joined.stdout + joined.stderr
    assert "following it" in joined.stdout and "report.html" in joined.stdout
    run = next((project / "runs").iterdir())
    assert (run / "rounds" / "0001" / "COMMIT.json").exists()
    again = submit(nodes, project)
    assert again.returncode == 0 and "all rounds are done" in again.stdout
    assert [a["packages"]["ray"] for a in json.loads((run / "run.json").read_text())["attempts"]]


@pytest.mark.slow
def test_ctrl_c_ends_the_following_and_a_stopped_job_goes_on(
    nodes: RayNodes, project: Path, demo_folder: Path, wait_for: Callable
) -> None:
    terminal = Terminal(command(nodes), nodes.env, project)
    wait_for(lambda: "round 0 · start actors" in terminal.output or terminal.over, 300)
    ended = terminal.press()
    assert ended.code == 3 and ended.seconds < 5, ended.output
    assert "stopped following" in ended.output and "Traceback" not in ended.output
    [job] = re.findall(r"stopped following (\S+)", ended.output)
    assert nodes.actors("GeneratorActor")

    following = begin(nodes, project)
    stop = [str(Path(sys.executable).with_name("ray")), "job", "stop", job, "--address", nodes.address]
    subprocess.run(stop, env=nodes.env, check=True, capture_output=True, timeout=60)
    stopped = finish(following)
    assert stopped.returncode == 3, stopped.stdout + stopped.stderr
    assert "stopping, up to" in stopped.stdout and "stopped by SIGTERM" in stopped.stdout
    assert "Traceback" not in stopped.stdout + stopped.stderr
    wait_for(lambda: not nodes.actors("GeneratorActor"), 10)

    again = submit(nodes, project)
    assert again.returncode == 0 and "resuming" in again.stdout, again.stdout + again.stderr


def need_private_nodes() -> None:
    probe = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
    if probe.returncode != 0:
        pytest.skip("a node with files of its own needs root (unshare --mount)")


@pytest.mark.slow
def test_a_run_folder_that_only_one_node_sees(nodes: RayNodes, project: Path, demo_folder: Path) -> None:
    need_private_nodes()
    (project / "runs").mkdir(exist_ok=True)
    node = nodes.start_node(hidden=project / "runs")
    try:
        wait_for_nodes(nodes, 2)
        done = submit(nodes, project)
        assert done.returncode == 2, done.stdout + done.stderr
        assert "not seen by" in done.stdout and "s3://" in done.stdout
    finally:
        nodes.kill(node)


@pytest.mark.slow
def test_the_model_reaches_a_node_without_shared_files(nodes: RayNodes, project: Path, demo_folder: Path) -> None:
    """The other node's cache is empty; the generator, which keeps off the driver's node, can only run there."""
    need_private_nodes()
    node = nodes.start_node(hidden=demo_folder.parent)
    try:
        wait_for_nodes(nodes, 2)
        done = submit(nodes, project, "--set", "cluster.placement=disaggregated")
        assert done.returncode == 0, done.stdout + done.stderr
        run = next((project / "runs").iterdir())
        actors = {
            actor["name"]: actor for actor in json.loads((run / "run.json").read_text())["attempts"][-1]["actors"]
        }
        assert actors["generator-0"]["node_id"] != actors["learner-0"]["node_id"]
    finally:
        nodes.kill(node)


def wait_for_nodes(nodes: RayNodes, count: int) -> None:
    """By a job that counts the nodes that are alive."""
    code = f"import ray, sys; ray.init(); sys.exit(sum(n['Alive'] for n in ray.nodes()) != {count})"
    words = [sys.executable, "-c", code]
    env = {**nodes.env, "RAY_ADDRESS": nodes.gcs}
    for _ in range(30):
        if subprocess.run(words, env=env, capture_output=True, check=False, timeout=120).returncode == 0:
            return
        time.sleep(1)
    raise AssertionError(f"there never were {count} nodes")
