"""The machines that a plan is for: a nodes file, one node of a named GPU, or this machine."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import NamedTuple

from rayalign.config.nodes import NodesConfig, NodeSection
from rayalign.config.run import RunConfig
from rayalign.errors import ConfigError
from rayalign.learning.engine_cache import main_memory
from rayalign.planning.devices import GIB, GPUS, Device, cpu_core, gpu_named


class Nodes(NamedTuple):
    """Equal nodes."""

    count: int
    gpus: int
    cpus: float
    """Each of them."""


@dataclass(frozen=True, slots=True)
class Machines:
    """What a plan has to go round with."""

    name: str
    gpu: Device | None
    """Of several kinds the one with the least memory: an actor may land on it."""
    kinds: tuple[Nodes, ...]
    memory: float
    """Main memory of the smallest node, bytes."""
    usd_per_hour: float | None = None
    """Of all nodes; None where a price is not known."""
    price_source: str = ""
    grows: bool = False
    """There are as many as a config asks for."""
    generator_nodes: int | None = None
    """Nodes where generators may be, as they are placed; None is all."""

    @property
    def nodes(self) -> int:
        return sum(kind.count for kind in self.kinds)

    def have(self, config: RunConfig) -> bool:
        """Whether there are so many GPUs, and on one node so many as an engine has."""
        engine = config.cluster.generators
        most = max(kind.gpus for kind in self.kinds)
        all_of_them = sum(kind.count * kind.gpus for kind in self.kinds)
        return self.grows or (config.wanted_gpus() <= all_of_them and engine.gpus <= most)

    def engines(self, config: RunConfig) -> int:
        """Processes of generators' engines on one node."""
        return config.cluster.generators.on_a_node(self.generator_nodes or self.nodes)

    def device(self, gpus: float) -> Device:
        """What an actor with so many GPUs computes on."""
        return self.gpu if gpus and self.gpu else cpu_core(self.memory)


def machines_of(file: NodesConfig) -> Machines:
    """The cluster of a nodes file.

    Raises:
        ConfigError: it names a GPU without figures.
    """
    own = {
        name: Device(name, d.memory_gib * GIB, d.bfloat16_tflops * 1e12, d.float32_tflops * 1e12,
                     d.bandwidth_gbs * 1e9, d.usd_per_hour, "the nodes file", "the nodes file")
        for name, d in file.devices.items()
    }  # fmt: skip
    known = [(node, gpu_named(node.gpu, "nodes.gpu", GPUS | own) if node.gpu else None) for node in file.nodes]
    prices = [_price(node, gpu) for node, gpu in known]
    listed = {gpu.price_source for node, gpu in known if gpu and node.usd_per_hour is None}
    return Machines(
        name=", ".join(f"{n.count} x ({n.gpus} {g.name if g else 'GPUs'}, {n.cpus} CPUs)" for n, g in known),
        gpu=min((g for _, g in known if g), key=lambda gpu: gpu.memory, default=None),
        kinds=tuple(Nodes(node.count, node.gpus, node.cpus) for node in file.nodes),
        memory=min(node.memory_gib for node in file.nodes) * GIB,
        usd_per_hour=None if None in prices else sum(price or 0 for price in prices),
        price_source="; ".join(sorted(listed)) or "the nodes file",
    )


def _price(node: NodeSection, gpu: Device | None) -> float | None:
    """Of all nodes of a kind, per hour: as the file says, else the table's price of their GPUs."""
    listed = gpu.usd_per_hour * node.gpus if gpu and gpu.usd_per_hour is not None else None
    each = listed if node.usd_per_hour is None else node.usd_per_hour
    return None if each is None else each * node.count


def machines_with(gpu: Device, config: RunConfig) -> Machines:
    """As many GPUs of one kind as the config asks for.

    Raises:
        ConfigError: it asks for none.
    """
    gpus = math.ceil(config.wanted_gpus())
    if not gpus:
        raise ConfigError(
            f"--gpu {gpu.name}, and the config asks for no GPUs",
            "all its actors compute on CPUs",
            "add --set cluster.generators.gpus=1 --set cluster.learner.gpus=1, or leave out --gpu",
        )
    price = None if gpu.usd_per_hour is None else gpu.usd_per_hour * gpus
    there = (Nodes(1, gpus, math.inf),)
    return Machines(f"{gpus} x {gpu.name}", gpu, there, math.inf, price, gpu.price_source, grows=True)


def this_machine(config: RunConfig, here: tuple[Device, int] | None) -> Machines:
    """This machine.

    Args:
        here: its GPUs, and how many; None where there are none, or none that the table knows.

    Raises:
        ConfigError: the config asks for GPUs, and none is known here.
    """
    if here is None and config.wanted_gpus():
        raise ConfigError(
            f"the config asks for {config.wanted_gpus():g} GPUs, and there are none here of which figures are known",
            "memory and time follow from what kind they are",
            f"name it: --gpu NAME, one of {', '.join(GPUS)}; or describe the cluster in a file: --nodes FILE",
        )
    cores = os.cpu_count() or 1
    memory = main_memory()
    gpu, count = here or (None, 0)
    return Machines(f"this machine, {cores} cores, {memory / GIB:.0f} GiB", gpu, (Nodes(1, count, cores),), memory)
