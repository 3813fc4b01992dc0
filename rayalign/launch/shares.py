"""What each process gets of a machine, in words: threads, and a generator's key-value cache."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

from rayalign.actors.cluster import Node, cpus_here
from rayalign.actors.threads import generator_tries, learner_tries, plan_threads
from rayalign.config.cluster import GIB, EngineSection
from rayalign.config.run import RunConfig
from rayalign.learning.engine_cache import CACHE_SHARE, main_memory, need_of_model
from rayalign.planning.memory import UTILIZATION


def describe_shares(config: RunConfig, model: Path) -> Iterator[str]:
    """Two lines: on this machine, or on a cluster that is joined later (`RAY_ADDRESS`).

    Args:
        model: folder of the base model.
    """
    here = not os.environ.get("RAY_ADDRESS")
    if here:
        yield describe_threads(config, cpus_here())
    else:
        yield "threads: the cores of the cluster's nodes are shared out when the run starts (RAY_ADDRESS names it)"
    each = _process("generator", config.cluster.generators)
    if config.cluster.generators.gpus:
        yield f"key-value cache of each {each}: what its weights leave of {_gpu_memory(config)}"
    else:
        yield f"key-value cache of each {each}: {_cpu_cache(config, model, here=here)}"


def describe_threads(config: RunConfig, cpus: int) -> str:
    """How many threads each process gets on a single machine; on a GPU it is one.

    Args:
        cpus: its cores.
    """
    nodes, pools = [Node("", "", cpus, 0)], config.cluster
    found = plan_threads(config, nodes, nodes)

    def most(threads: int, tries: bool) -> str:
        return f"at most {threads}, fewer where fewer are faster" if tries and threads > 1 else f"{threads}"

    parts = [f"each {_process('generator', pools.generators)} {most(found.generator, generator_tries(config))}"]
    parts += [f"each scorer {found.scorer}"] if config.scoring else []
    parts += [f"each {_process('judge', pools.judges)} {found.judge}"] if config.judges else []
    parts.append(f"each learner worker {most(found.learner, learner_tries(config))}")
    return f"threads on {cpus} cores: {'; '.join(parts)}"


def _process(actor: str, engine: EngineSection) -> str:
    return actor if engine.tensor_parallel == 1 else f"process of a {actor}"


def _gpu_memory(config: RunConfig) -> str:
    """What a generator's engine takes of each of its GPUs."""
    engine = config.cluster.engine
    if engine.memory != "auto" and engine.memory > 1:
        return f"{engine.memory:g} GiB of its GPU"
    return f"{engine.gpu_bytes(1) or UTILIZATION:g} of its GPU's memory"


def _cpu_cache(config: RunConfig, model: Path, *, here: bool) -> str:
    """Its size, and for how many sequences; of a node that nobody knows yet no more than can be said."""
    engine, need = config.cluster.engine, need_of_model(config, model)
    if not here and engine.memory != "auto" and engine.memory <= 1:
        return f"{engine.memory:g} of its node's memory"
    memory = main_memory() if here else math.inf
    if need is None:
        return f"{engine.cache_bytes(memory) / GIB:.2f} GiB"
    said = need.describe(engine.cache_bytes(memory, need.bytes(memory, config.cluster.generators.on_a_node(1))))
    limited = not here and engine.memory == "auto"
    return said + (f"; all on a node have {CACHE_SHARE:g} of its memory at most" if limited else "")
