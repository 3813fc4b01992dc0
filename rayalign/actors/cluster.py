"""The Ray cluster a run works on: joining it, its nodes, and whether each can do its part."""

from __future__ import annotations

import logging
import os
import platform
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TypedDict

import psutil
import ray
from ray import ObjectRef
from ray._private import ray_constants
from ray.exceptions import AuthenticationError, GetTimeoutError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from rayalign import __version__
from rayalign.actors.autoscaler import may_grow
from rayalign.actors.handles import fetch
from rayalign.actors.process import QUIET_ENV
from rayalign.actors.ray_watch import watched
from rayalign.errors import ClusterError, InterruptedRunError, RunFolderError, StageTimeoutError
from rayalign.records import JsonObject
from rayalign.stopping import asked, call, check
from rayalign.store.folder import Folder
from rayalign.store.run_dir import RunDir

ROLE_LABEL = "rayalign-role"
PROBE_TIMEOUT_S = 120
END_S = 5
"""How long the workers of a local Ray may take to end after it."""
START_TRIES = 3
"""How often a local Ray is started, which a busy machine may not do in Ray's own 30 s."""
LOCAL_RAY = {"RAY_worker_niceness": "0", "RAY_task_events_report_interval_ms": "0"}
"""Of a run's own Ray, where nobody has set them: actors are no less urgent than Ray's own processes, whose every stir
else holds their threads up; and no list of tasks is kept, which only a dashboard shows."""
TOKEN_REMEDY = "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH=FILE with the cluster's token"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Node:
    id: str
    address: str
    cpus: float
    gpus: float
    role: str | None = None
    """What the node type's label `rayalign-role` says it is for: `generator`, `learner`, or another word."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a run may use, seen when it starts."""

    nodes: tuple[Node, ...]
    shared: bool
    """A cluster that was there before the run and may have (or get) other machines; False for the run's own Ray."""
    driver_node: str = ""
    """The node of this process; the run ends with it."""
    grows: bool = False
    """It has an autoscaler, which may bring what is not there yet."""

    @property
    def cpus(self) -> float:
        return sum(node.cpus for node in self.nodes)

    @property
    def gpus(self) -> float:
        return sum(node.gpus for node in self.nodes)


@contextmanager
def connected() -> Iterator[Cluster]:
    """The cluster at `RAY_ADDRESS`, or a local one that ends with the run.

    Raises:
        ClusterError: it cannot be joined; the versions or the token differ.
        StageTimeoutError: a local Ray does not start.
    """
    address, over = os.environ.get("RAY_ADDRESS"), threading.Event()
    # A local Ray ends with the thread that started it.
    call(partial(_join, address) if address else _start_local, until=over)
    try:
        with watched(own=not address):
            yield _describe(shared=bool(address))
    finally:
        # A process that was told to stop ends at once, and its Ray (or its part of a cluster) with it; threads that are
        # still inside Ray must not meet one that is shutting down.
        if not asked():
            workers = _own_workers()
            ray.shutdown()
            over.set()
            _end_left(workers)


def _own_workers() -> list[psutil.Process]:
    """What this process's own Ray has started."""
    found: list[psutil.Process] = []
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            found += child.children(recursive=True) if child.name() == "raylet" else []
    return found


def _end_left(workers: Sequence[psutil.Process]) -> None:
    """Kill those that Ray has told to end and that have not: now and then one waits for itself in its last lines."""
    for worker in psutil.wait_procs(workers, timeout=END_S)[1]:
        with suppress(psutil.NoSuchProcess):
            log.info("worker %d of a Ray that has ended is killed", worker.pid)
            worker.kill()


def _start_local() -> None:
    """A local Ray that this machine alone reaches, and that asks for the token that Ray makes; tried again where a busy
    machine has not started it in Ray's own 30 s."""
    os.environ |= {name: value for name, value in LOCAL_RAY.items() if name not in os.environ}
    # Ray's own switch for loopback, which it has for other systems; its processes read the variable, this one has.
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    ray_constants.ENABLE_RAY_CLUSTER = False
    for tries_left in reversed(range(START_TRIES)):
        try:
            ray.init(
                address="local",
                num_cpus=cpus_here(),
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.WARNING,
            )
            return
        except Exception as error:  # Ray raises no narrower one
            check()
            log.warning("a local Ray did not start, %d more tries: %s", tries_left, error)
            ray.shutdown()
            if not tries_left:
                raise StageTimeoutError(
                    f"a local Ray did not start in {START_TRIES} tries",
                    str(error).strip() or type(error).__name__,
                    "free processor time and memory, and run the same command again",
                ) from error


def cpus_here() -> int:
    """Logical CPUs of a local Ray."""
    return max(2, os.cpu_count() or 1)


def _join(address: str) -> None:
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
    except AuthenticationError as error:
        raise ClusterError(
            f"the cluster at {address} refused the token", str(error).splitlines()[0], TOKEN_REMEDY
        ) from None
    except (RuntimeError, ConnectionError) as error:
        found, remedy = f"cannot join the Ray cluster at {address}", "check RAY_ADDRESS; unset, a local Ray is started"
        if "Version mismatch" in str(error):
            found = f"{found}: it runs other versions"
            remedy = "install the cluster's Ray and Python versions here, or submit from where they are installed"
        raise ClusterError(found, str(error).strip(), remedy) from None


def _describe(*, shared: bool) -> Cluster:
    alive = [node for node in ray.nodes() if node["Alive"]]
    nodes = tuple(_node(node["Resources"], node) for node in alive)
    here = ray.get_runtime_context().get_node_id()
    return Cluster(nodes, shared, here, grows=shared and may_grow(alive))


def _node(resources: dict[str, float], node: JsonObject) -> Node:
    role = node.get("Labels", {}).get(ROLE_LABEL)
    return Node(node["NodeID"], node["NodeManagerAddress"], resources.get("CPU", 0), resources.get("GPU", 0), role)


def check_nodes(cluster: Cluster, run_dir: RunDir) -> None:
    """Ask every node of a shared cluster for its versions and whether it sees the run folder.

    Raises:
        ClusterError: a node runs other versions, or does not answer.
        RunFolderError: a node does not see what the driver wrote into the run folder.
    """
    if not cluster.shared:
        return
    probe = run_dir.root / f".probe-{uuid.uuid4().hex}"
    probe.write_bytes(probe.name.encode())
    try:
        asked = [(node, _ask(node, probe)) for node in cluster.nodes]
        answers = [(node, answer) for node, ref in asked if (answer := _answer(node, ref)) is not None]
        for node, answer in answers:
            _check_versions(node, answer["versions"])
        if blind := [node.address for node, answer in answers if answer["probe"] != probe.name]:
            raise RunFolderError(
                f"run folder {run_dir.root}: not seen by {', '.join(blind)} ({len(cluster.nodes)} nodes in all)",
                "each node reads and writes there; what only one node sees would be lost with it",
                "set run.dir to a folder that all nodes mount, or to an object store such as s3://bucket/runs",
            )
    finally:
        probe.delete()


class _Seen(TypedDict):
    """What a node says of itself."""

    probe: str
    """What it reads in the run folder, or why it cannot."""
    versions: dict[str, str]


def _ask(node: Node, probe: Folder) -> ObjectRef[_Seen]:
    where = NodeAffinitySchedulingStrategy(node.id, soft=False)
    task = ray.remote(_look).options(num_cpus=0, scheduling_strategy=where, runtime_env={"env_vars": QUIET_ENV})
    return task.remote(probe)


def _look(probe: Folder) -> _Seen:
    try:
        seen = probe.read_text()
    except (OSError, RunFolderError) as error:
        seen = str(error)
    return {"probe": seen, "versions": _versions()}


def _versions() -> dict[str, str]:
    return {"Python": platform.python_version(), "Ray": ray.__version__, "rayalign": __version__}


def _answer(node: Node, ref: ObjectRef[_Seen]) -> _Seen | None:
    """What a node says; None where it has gone meanwhile, as nodes may at any time."""
    try:
        return fetch(ref, PROBE_TIMEOUT_S)
    except GetTimeoutError:
        raise ClusterError(
            f"node {node.address} gave no answer in {PROBE_TIMEOUT_S} s",
            "it is overloaded, or its environment cannot be set up",
            "look at it with `ray status` and at its logs, or remove it",
        ) from None
    except InterruptedRunError:
        raise
    except Exception as error:
        if not any(one["NodeID"] == node.id and one["Alive"] for one in ray.nodes()):
            log.warning("node %s has gone: %s", node.address, error)
            return None
        raise ClusterError(
            f"node {node.address} cannot run rayalign: {str(error).strip().splitlines()[-1]}",
            "every node needs rayalign and what it depends on",
            "install it there, or submit from a working directory that holds it",
        ) from error


def _check_versions(node: Node, versions: dict[str, str]) -> None:
    ours = _versions()
    if versions != ours:
        told = ", ".join(f"{name} {versions[name]} there and {ours[name]} here" for name in ours)
        raise ClusterError(
            f"node {node.address} runs other versions than the driver: {told}",
            "records and adapters travel between them",
            "install the same versions on every node",
        )
