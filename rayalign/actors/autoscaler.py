"""What the cluster's autoscaler, if it has one, was asked for and is about to bring.

Ray tells nobody which node types an autoscaler has: what is there is one node after another. So whether nodes may still
come is read from what an autoscaler leaves behind: a node that was started as one of a type, or its own report.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray

from rayalign.records import JsonObject

NODE_TYPE_LABEL = "ray.io/node-group"
"""On nodes that an autoscaler, KubeRay or `ray up` started: their node type."""
REPORT = b"__autoscaling_status"
"""Where the monitor of an autoscaler v1 reports."""
REPORT_WAIT_S = 12
"""A monitor first reports so long after its cluster's start, whether there is an autoscaler or not."""
UNTYPED = re.compile(r"node_[0-9a-f]+")
"""What a monitor without an autoscaler calls a node's type: after the node itself."""
LOOK_S = 10.0
SHOWN = ("CPU", "GPU")


def may_grow(nodes: Sequence[JsonObject]) -> bool:
    """Whether a cluster has an autoscaler.

    Args:
        nodes: what `ray.nodes()` says of those that are there.
    """
    if any(NODE_TYPE_LABEL in node.get("Labels", {}) for node in nodes):
        return True
    return not all(UNTYPED.fullmatch(kind) for kind in _reported().get("active_nodes", {}))


def _reported() -> JsonObject:
    """What the autoscaler v1 says it does; empty where none does."""
    from ray.experimental.internal_kv import _internal_kv_get

    deadline = time.monotonic() + REPORT_WAIT_S
    while not (report := _internal_kv_get(REPORT)):
        if time.monotonic() > deadline or _is_v2():
            return {}
        time.sleep(0.5)
    return json.loads(report).get("autoscaler_report") or {}


def _is_v2() -> bool:
    from ray.autoscaler.v2.utils import is_autoscaler_v2

    return is_autoscaler_v2()


def pending_demand() -> str:
    """What was asked of the cluster and has no place yet, as in `3 x {CPU: 1, GPU: 1}`, with what is on its way; empty
    where all have theirs, or Ray does not say."""
    from ray.autoscaler.v2.sdk import get_cluster_status

    try:
        status = get_cluster_status(ray.get_runtime_context().gcs_address)
    except Exception:  # Ray raises no narrower one, and the run does not depend on it
        return ""
    wanted: Counter[str] = Counter()
    for demand in [*status.resource_demands.ray_task_actor_demand, *status.resource_demands.placement_group_demand]:
        for several in demand.bundles_by_count:
            wanted[_shape(several.bundle)] += several.count
    coming = Counter(node.ray_node_type_name for node in status.pending_nodes)
    for launch in status.pending_launches:
        coming[launch.ray_node_type_name] += launch.count
    if not wanted:
        return ""
    return _counted(wanted) + (f" (on the way: {_counted(coming)})" if coming else "")


def draining_nodes() -> Collection[str]:
    """Ids of the nodes that are about to go: the cloud takes them back, or somebody drains them."""
    # Ray's Train asks it so too; there is no public way.
    from ray._private.state import state

    return state.get_draining_nodes().keys()


def _shape(bundle: Any) -> str:
    parts = {name: bundle[name] for name in SHOWN if bundle.get(name)}
    return "{" + ", ".join(f"{name}: {amount:g}" for name, amount in parts.items()) + "}"


def _counted(some: Counter[str]) -> str:
    return ", ".join(f"{count} x {what}" for what, count in sorted(some.items()))


@contextmanager
def told_of_demand(say: Callable[[str], None]) -> Iterator[None]:
    """While actors start: say what they wait for, whenever that is something else than before."""
    over = threading.Event()

    def watch() -> None:
        before = ""
        while not over.wait(LOOK_S):
            if (now := pending_demand()) and now != before:
                say(f"waiting for nodes: the cluster was asked for {now}")
            before = now

    watcher = threading.Thread(target=watch, daemon=True, name="demand")
    watcher.start()
    try:
        yield
    finally:
        over.set()
        # It must not ask a Ray that is shutting down.
        watcher.join(LOOK_S)
