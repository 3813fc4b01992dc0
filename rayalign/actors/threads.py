"""How many threads each process of an actor gets: those that work at the same time have a core for each thread.

    sampling  generators, and the scorers and judges that compute beside them    ─┐ one after the other on a node:
    update    the learner's workers                                              ─┘ each phase has all its cores;
                                                          they share them with `loop.max_staleness: 1`, and with
                                                          `loop.evaluate_beside`, as the learner measures KL

Threads of whoever waits sleep (`OMP_WAIT_POLICY`), so a core that two phases count has one of them at a time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rayalign.actors.cluster import Node
from rayalign.config.cluster import MOST_THREADS, ThreadCount
from rayalign.config.run import RunConfig


@dataclass(frozen=True, slots=True)
class Threads:
    """Threads of each process."""

    generator: int = 1
    """Of each process of an engine."""
    scorer: int = 1
    judge: int = 1
    learner: int = 1
    """Of each worker."""


ONE_EACH = Threads()


def plan_threads(config: RunConfig, generator_nodes: Sequence[Node], learner_nodes: Sequence[Node]) -> Threads:
    """Threads for processes on CPU; those on GPUs keep one, for their work is elsewhere.

    Where several nodes are there, generators are spread over them, and the learner's workers may all be on one. Of
    nodes that differ the smallest one counts, as nobody knows who comes where.

    Args:
        generator_nodes: where generators, scorers and judges may be; none is known where an autoscaler brings them.
        learner_nodes: where the learner may be.
    """
    pools = config.cluster
    cores, nodes = _cores(generator_nodes), max(1, len(generator_nodes))
    engines = _on_a_node(pools.generators.max * pools.generators.tensor_parallel, nodes, pools.generators.gpus)
    computing = any(section.type == "reward_model" for section in config.scoring)
    scorers = _on_a_node(pools.scorers.max if computing else 0, nodes, pools.scorers.gpus)
    judges = len(config.judges) * pools.judges.max * pools.judges.tensor_parallel
    judges = _on_a_node(judges, nodes, pools.judges.gpus)
    workers = 0 if pools.learner.gpus else config.training.workers
    # Where a node may have both, all workers count there: they may all be on one.
    here = {node.id for node in generator_nodes} & {node.id for node in learner_nodes}
    together = config.loop.max_staleness or config.evaluates_beside
    overlapping = workers if together and here else 0
    beside = max(1, cores // max(1, engines + scorers + judges + overlapping))
    left = cores - beside * (scorers + judges + overlapping)
    learners = beside if overlapping else _cores(learner_nodes) // max(1, workers)
    return Threads(
        generator=_of(pools.generators.threads, left // engines if engines else 1),
        scorer=_of(pools.scorers.threads, beside if scorers else 1),
        judge=_of(pools.judges.threads, beside if judges else 1),
        learner=_of(pools.learner.threads, learners if workers else 1),
    )


def _cores(nodes: Sequence[Node]) -> int:
    return int(min(MOST_THREADS, min((node.cpus for node in nodes), default=1)))


def _on_a_node(processes: int, nodes: int, gpus: float) -> int:
    """How many of so many processes a node has that compute on its CPU."""
    return 0 if gpus else math.ceil(processes / nodes)


def _of(asked: ThreadCount, found: int) -> int:
    return max(1, found) if asked == "auto" else asked


def generator_tries(config: RunConfig) -> bool:
    """Whether a generator tries if fewer of its threads are faster: it alone, not several processes."""
    pool = config.cluster.generators
    return pool.threads == "auto" and not pool.gpus and pool.tensor_parallel == 1


def learner_tries(config: RunConfig) -> bool:
    """Whether a learner worker does: where it has all the weights."""
    pool = config.cluster.learner
    return pool.threads == "auto" and not pool.gpus and config.training.zero_stage < 3
