"""Which actor gets which GPU: what a config asks for, laid out over the GPUs that are there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rayalign.config.cluster import EngineSection
from rayalign.config.run import RunConfig
from rayalign.errors import PlacementError

if TYPE_CHECKING:
    from rayalign.actors.cluster import Cluster

PROBE_TIMEOUT_S = 120
_PROBE = """
import json, torch
gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
print(json.dumps([torch.__version__, torch.version.cuda, [[gpu.name, gpu.total_memory] for gpu in gpus]]))
"""
SHOWN = 16
"""Of actors that have no GPU here."""
ROUNDING = 1e-4
"""What Ray does not tell apart in parts of a GPU."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What one actor asks for: `gpus` of one node, below 1 a part of one."""

    actor: str
    gpus: float
    memory: str = ""
    """How much of each GPU's memory it takes, in words; empty where it takes what it needs."""

    def __str__(self) -> str:
        return f"{self.actor} ({self.memory})" if self.memory else self.actor


@dataclass(frozen=True, slots=True)
class Layout:
    nodes: list[list[list[Wish]]]
    """Of each node's GPUs, who is on it."""
    unplaced: list[Wish]


def wishes(config: RunConfig, *, least: bool = False) -> list[Wish]:
    """What each actor of a run asks for; those on CPU ask for 0 GPUs.

    Args:
        least: only those without which a run does not begin.
    """
    pools, judges = config.cluster, config.judges
    generators, scorers, each = (
        pool.min if least else pool.max for pool in (pools.generators, pools.scorers, pools.judges)
    )
    engine, workers = pools.engine, range(config.training.workers)
    if pools.shares_gpus:
        ranks = [workers[i * engine.tensor_parallel :][: engine.tensor_parallel] for i in range(generators)]
        names = [", ".join([f"generator-{i}", *(f"learner-{j}" for j in some)]) for i, some in enumerate(ranks)]
        found = [(f"{name} in turns", engine.gpus, _memory(engine)) for name in names]
    else:
        found = [(f"generator-{i}", engine.gpus, _memory(engine)) for i in range(generators)]
        found += [(f"learner-{i}", pools.learner.gpus, "") for i in workers]
    names = [name for i in range(len(judges)) for name in judge_names(i, pools.judges.max)[:each]]
    found += [(name, pools.judges.gpus, _memory(pools.judges)) for name in names]
    if config.scoring:
        found += [(f"scorer-{i}", pools.scorers.gpus, "") for i in range(scorers)]
    return [Wish(*one) for one in found]


def judge_names(judge: int, replicas: int) -> list[str]:
    """What the actors of a judge are called."""
    return [f"judge-{judge}"] if replicas == 1 else [f"judge-{judge}-{i}" for i in range(replicas)]


def _memory(devices: EngineSection) -> str:
    if devices.memory == "auto":
        return f"{0.9 * devices.gpus:g} of its memory" if 0 < devices.gpus < 1 else ""
    return f"{devices.memory:g} of its memory" if devices.memory <= 1 else f"{devices.memory:g} GiB"


def lay_out(asked: Sequence[Wish], gpus: Sequence[int]) -> Layout:
    """The largest first, each on the fullest GPUs of the fullest node that have room, as Ray does.

    Args:
        gpus: of each node.
    """
    placed: list[list[list[Wish]]] = [[[] for _ in range(count)] for count in gpus]
    unplaced = []
    for wish in sorted((wish for wish in asked if wish.gpus), key=lambda wish: -wish.gpus):
        part, count = min(1.0, wish.gpus), max(1, round(wish.gpus))
        rooms = [[gpu for gpu in node if _used(gpu) + part <= 1 + ROUNDING] for node in placed]
        fitting = [sorted(room, key=_used, reverse=True)[:count] for room in rooms if len(room) >= count]
        if not fitting:
            unplaced.append(wish)
        for gpu in max(fitting, key=lambda some: sum(map(_used, some)), default=[]):
            gpu.append(wish)
    return Layout(placed, unplaced)


def _used(gpu: Sequence[Wish]) -> float:
    return sum(min(1.0, wish.gpus) for wish in gpu)


def check_devices(config: RunConfig, cluster: Cluster) -> None:
    """Refuse actors that no node of a cluster has room for, where none may be added.

    Raises:
        PlacementError: an engine is larger than each node, or the parts of GPUs do not add up to whole ones.
    """
    gpus = [int(node.gpus) for node in cluster.nodes]
    if cluster.grows:
        return
    if unplaced := lay_out(wishes(config, least=True), gpus).unplaced:
        raise PlacementError(
            f"{unplaced[0].actor} asks for {_gpus(unplaced[0].gpus)}, and there is none left for it",
            f"the nodes have {', '.join(map(str, gpus)) or 'no'} GPUs; an engine's are all on one node, and a part of "
            "one is on one GPU",
            "lower gpus and tensor_parallel of cluster.generators or cluster.judges to what one node has, or add nodes",
        )
    most = max((node.cpus for node in cluster.nodes), default=0)
    for key, engine in (("generators", config.cluster.generators), ("judges", config.cluster.judges)):
        if not engine.gpus and engine.tensor_parallel > max(1, most):
            raise PlacementError(
                f"cluster.{key}.tensor_parallel is {engine.tensor_parallel}, and no node has more than {most:g} "
                "logical CPUs",
                "an engine's processes are all on one node, and each needs one",
                f"lower cluster.{key}.tensor_parallel",
            )


def _gpus(count: float) -> str:
    return f"{count:g} of a GPU" if count < 1 else "one GPU" if count == 1 else f"{count:g} GPUs of one node"


def ask_torch() -> tuple[str, str | None, list[str]]:
    """Its version, that of its CUDA (null in a build for CPU), and name and memory of each GPU that it sees; asked in a
    process of its own.

    Raises:
        RuntimeError: it does not work.
    """
    probe = [sys.executable, "-c", _PROBE]
    try:
        told = subprocess.run(probe, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(str(error)) from error
    try:
        version, cuda, gpus = json.loads(told.stdout.splitlines()[-1])
    except (IndexError, ValueError) as error:
        raise RuntimeError((told.stderr.strip().splitlines() or [str(error)])[-1]) from error
    return version, cuda, [f"{name}, {memory / 2**30:.1f} GiB" for name, memory in gpus]


def gpus_here() -> list[str]:
    """Name and memory of each GPU that torch sees on this machine."""
    try:
        return ask_torch()[2]
    except RuntimeError:
        return []


def describe_devices(asked: Sequence[Wish]) -> Iterator[str]:
    """Device by device who gets what: of this machine, or of a cluster that is joined later."""
    on_cpu = ", ".join(wish.actor for wish in asked if not wish.gpus)
    if all(not wish.gpus for wish in asked):
        yield f"devices: {on_cpu} on CPU, where no GPU is visible to them"
        return
    if os.environ.get("RAY_ADDRESS"):
        yield "devices (RAY_ADDRESS names a cluster, whose GPUs are looked at when the run starts):"
        yield from (f"  {_gpus(wish.gpus):<20}{wish}" for wish in asked if wish.gpus)
    else:
        here = gpus_here()
        layout = lay_out(asked, [len(here)])
        yield "devices of this machine (which of several equal ones it is, Ray decides):"
        for number, (name, users) in enumerate(zip(here, layout.nodes[0], strict=True)):
            yield f"  GPU {number}  {name}: {', '.join(map(str, users)) or 'nobody'}"
        yield from (f"  not here: {_gpus(wish.gpus)} for {wish}" for wish in layout.unplaced[:SHOWN])
        if (more := len(layout.unplaced) - SHOWN) > 0:
            yield f"  not here: GPUs for {more} more"
    if on_cpu:
        yield f"  CPU    {on_cpu}"
