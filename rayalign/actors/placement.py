"""Who gets which share of the cluster, and whether it fits, said before the first model is loaded."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass

from rayalign.actors.cluster import ROLE_LABEL, Cluster, Node
from rayalign.actors.devices import check_devices, gpus_here
from rayalign.actors.process import cpus_of
from rayalign.actors.threads import ONE_EACH, Threads, plan_threads
from rayalign.config.cluster import EngineSection, PoolSize
from rayalign.config.run import RunConfig
from rayalign.errors import PlacementError

NODE_ID_LABEL = "ray.io/node-id"


@dataclass(frozen=True, slots=True)
class Placement:
    """Logical CPUs reserved by each actor; one per node stays free for Ray Data and Ray Train's placement group."""

    generator: float
    scorer: float
    """The share of each scorer, and of each process of a judge."""
    learner: float
    generator_labels: dict[str, str] | None = None
    """The label selector of generators; None lets them run anywhere."""
    learner_labels: dict[str, str] | None = None
    apart: bool = False
    """Generators keep off whatever nodes the learner gets, which is known once it runs."""
    threads: Threads = ONE_EACH
    generator_nodes: int = 1
    """Over how many nodes generators are spread; one where an autoscaler is still to bring them."""


def settled(config: RunConfig, cluster: Cluster) -> RunConfig:
    """The config with what `placement: auto` comes to where GPUs are too few for generators and learner side by side,
    and enough for them in turns: `colocated`. Else as it is."""
    pools = config.cluster
    if pools.placement != "auto" or not pools.generators.gpus or not pools.learner.gpus or cluster.grows:
        return config
    if config.wanted_gpus(least=True) <= cluster.gpus:
        return config
    data = config.to_dict()
    try:
        shared = RunConfig.model_validate({**data, "cluster": {**data["cluster"], "placement": "colocated"}})
    except ValueError:
        return config
    return shared if shared.wanted_gpus(least=True) <= cluster.gpus else config


def settled_here(config: RunConfig) -> RunConfig:
    """`settled` by the GPUs of this machine; as it is where a cluster is joined later."""
    pools = config.cluster
    if pools.placement != "auto" or not (pools.generators.gpus and pools.learner.gpus) or os.environ.get("RAY_ADDRESS"):
        return config
    return settled(config, Cluster((Node("", "", 0, len(gpus_here())),), shared=False))


def place(config: RunConfig, cluster: Cluster) -> Placement:
    """Shares of the cluster's logical CPUs, and whether generators and learner get different nodes.

    Raises:
        PlacementError: the cluster has too few CPUs or GPUs, or only one node where two are asked for, and no
            autoscaler that may bring them.
    """
    _check_gpus(config, cluster)
    check_devices(config, cluster)
    nodes = [node for node in cluster.nodes if node.cpus >= 2]
    if not nodes and not cluster.grows:
        raise PlacementError(
            f"no node has two logical CPUs ({', '.join(f'{node.cpus:g}' for node in cluster.nodes)})",
            "the actors of a node need one and Ray Data and Ray Train need another",
            "use machines with two cores, or start Ray with --num-cpus=2",
        )
    pools, judges = config.cluster, len(config.judges)
    # Each process of an engine counts as an actor.
    split = pools.generators.tensor_parallel
    actors = pools.generators.max * split + pools.scorers.max + config.training.workers
    actors += judges * pools.judges.max * pools.judges.tensor_parallel
    # Even if all actors land on the smallest of these nodes, a whole CPU stays free there; on one that is still to come
    # too, if it has two.
    share = min(1.0, (min((node.cpus for node in nodes), default=2) - 1) / actors)
    share = int(share * 100) / 100
    shares = Placement(generator=cpus_of(split, share), scorer=share, learner=share)
    shares = _where(config, cluster, nodes, shares)
    generators, learners = _nodes_of_each(cluster, nodes, shares)
    threads = plan_threads(config, generators, learners)
    return dataclasses.replace(shares, threads=threads, generator_nodes=max(1, len(generators)))


def _where(config: RunConfig, cluster: Cluster, nodes: Sequence[Node], shares: Placement) -> Placement:
    """The placement with what says on which nodes generators and learner may be."""
    if any(node.role is not None for node in cluster.nodes):
        pools = config.cluster
        if pools.generators.max > pools.generators.min:
            # Nothing else runs on their nodes. Small shares would all fit on the first one, and no other would come.
            shares = dataclasses.replace(shares, generator=float(pools.generators.tensor_parallel))
        labels = {"generator_labels": {ROLE_LABEL: "generator"}, "learner_labels": {ROLE_LABEL: "learner"}}
        return dataclasses.replace(shares, **labels)
    if not _apart(config, cluster, len(nodes)):
        return shares
    if any(node.id == cluster.driver_node and node.cpus > config.training.workers for node in nodes):
        # The run is lost with the driver's node in any case, so the learner depends on no other.
        here = {NODE_ID_LABEL: cluster.driver_node}
        return dataclasses.replace(shares, generator_labels=keep_off({cluster.driver_node}), learner_labels=here)
    return dataclasses.replace(shares, apart=True)


def _nodes_of_each(cluster: Cluster, nodes: Sequence[Node], found: Placement) -> tuple[list[Node], list[Node]]:
    """The nodes where generators may be, and those for the learner."""
    if found.generator_labels and ROLE_LABEL in found.generator_labels:
        generators = [node for node in cluster.nodes if node.role == "generator"]
        return generators, [node for node in cluster.nodes if node.role == "learner"]
    if found.learner_labels:
        here = [node for node in nodes if node.id == cluster.driver_node]
        return [node for node in nodes if node not in here], here
    # Which one the learner gets is not known: as if it left the smaller ones.
    smaller = sorted(nodes, key=lambda node: node.cpus)
    return smaller[:-1] if found.apart else smaller, smaller


def _check_gpus(config: RunConfig, cluster: Cluster) -> None:
    wanted = config.wanted_gpus(least=True)
    if wanted > cluster.gpus and not cluster.grows:
        raise PlacementError(
            f"the config asks for {wanted:g} GPUs and the cluster has {cluster.gpus:g}, and no autoscaler",
            "generators, scorers, judges and learner workers would wait for ever",
            f"{_in_turns(config, cluster)}lower cluster.*.gpus (0 runs on CPU), or add GPU nodes",
        )


def _in_turns(config: RunConfig, cluster: Cluster) -> str:
    """How generators and learner would have GPUs enough together, in words; empty where they would not."""
    pools, workers = config.cluster, config.training.workers
    engines, odd = divmod(workers, pools.generators.tensor_parallel)
    alone = pools.shares_gpus or not (pools.generators.gpus and pools.learner.gpus)
    if alone or odd or workers * pools.learner.gpus > cluster.gpus:
        return ""
    number = "" if pools.generators.max == engines else f" with cluster.generators.min and max {engines}"
    return f"let generators and learner take turns on the same GPUs (cluster.placement: colocated{number}), "


def _apart(config: RunConfig, cluster: Cluster, nodes: int) -> bool:
    """Whether to keep generators off the learner's nodes: asked for, or `auto` and there are nodes for both."""
    pools = config.cluster
    # GPUs already decide who goes where; on CPU nothing but this does.
    if pools.placement == "colocated" or pools.generators.gpus or pools.learner.gpus:
        return False
    if pools.placement == "disaggregated" and cluster.grows:
        return True
    if pools.placement == "disaggregated" and cluster.shared and nodes < 2:
        raise PlacementError(
            f"cluster.placement is disaggregated, and {nodes} of {len(cluster.nodes)} nodes has CPUs for actors",
            "generators and learner cannot be on different nodes",
            "add a node, or set cluster.placement: auto",
        )
    return nodes > 1


def keep_off(node_ids: set[str]) -> dict[str, str]:
    """The label selector of an actor that may run on any node but these."""
    return {NODE_ID_LABEL: f"!in({','.join(sorted(node_ids))})"}


def describe_placement(config: RunConfig) -> str:
    """What a run would start, in words."""
    pools = config.cluster
    turns = ": generators and learner take turns on the same GPUs" if pools.shares_gpus else ""
    return "\n".join(
        [
            f"placement: {pools.placement}{turns}",
            f"  generator  {_count(pools.generators)} x vLLM{_split(pools.generators)}, {pools.generators.gpus:g} GPU "
            "each",
            f"  scorer     {_count(pools.scorers)} x {', '.join(s.name for s in config.scoring)}, "
            f"{pools.scorers.gpus:g} GPU each",
            *(
                f"  judge      {_count(pools.judges)} x {judge.name}, vLLM{_split(pools.judges)}, "
                f"{pools.judges.gpus:g} GPU each"
                for judge in config.judges
            ),
            f"  learner    {config.training.workers} x DeepSpeed ZeRO-{config.training.zero_stage}, "
            f"{pools.learner.gpus:g} GPU each",
            "  one logical CPU stays free for Ray Data",
        ]
    )


def _count(pool: PoolSize) -> str:
    return f"{pool.min}" if pool.min == pool.max else f"{pool.min} to {pool.max}"


def _split(engine: EngineSection) -> str:
    return f" in {engine.tensor_parallel} processes" if engine.tensor_parallel > 1 else ""
