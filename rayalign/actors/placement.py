"""Who gets which share of the machine, and whether it fits, said before the first model is loaded."""

from __future__ import annotations

from dataclasses import dataclass

from rayalign.config import RunConfig
from rayalign.errors import PlacementError


@dataclass(frozen=True, slots=True)
class Placement:
    """Logical CPUs reserved by each actor; at least one stays free for Ray Data and Ray Train's placement group."""

    generator: float
    scorer: float
    learner: float


def place(config: RunConfig, cpus: float, gpus: float) -> Placement:
    """Shares of `cpus` logical CPUs and `gpus` GPUs.

    Raises:
        PlacementError: the cluster has too few.
    """
    pools = config.cluster
    wanted_gpus = (
        pools.generators.min * pools.generators.gpus
        + pools.scorers.min * pools.scorers.gpus
        + config.training.workers * pools.learner.gpus
    )
    if wanted_gpus > gpus:
        raise PlacementError(
            f"the config asks for {wanted_gpus:g} GPUs and the cluster has {gpus:g}",
            "generators, scorers and learner workers would wait for ever",
            "lower cluster.*.gpus (0 runs on CPU), or add GPU nodes",
        )
    actors = pools.generators.min + pools.scorers.min + config.training.workers
    if cpus < 2:
        raise PlacementError(
            f"the cluster has {cpus:g} logical CPU",
            "the actors need one and Ray Data and Ray Train need another",
            "use a machine with two cores, or start Ray with --num-cpus=2",
        )
    share = min(1.0, (cpus - 1) / actors)
    share = int(share * 100) / 100
    return Placement(generator=share, scorer=share, learner=share)


def describe_placement(config: RunConfig) -> str:
    """What a run would start, in words."""
    pools = config.cluster
    return "\n".join(
        [
            f"placement: {pools.placement}",
            f"  generator  {pools.generators.min} x vLLM, {pools.generators.gpus:g} GPU each",
            f"  scorer     {pools.scorers.min} x {', '.join(s.name for s in config.scoring)}, "
            f"{pools.scorers.gpus:g} GPU each",
            f"  learner    {config.training.workers} x DeepSpeed ZeRO-{config.training.zero_stage}, "
            f"{pools.learner.gpus:g} GPU each",
            "  one logical CPU stays free for Ray Data",
        ]
    )
