"""Where generators sit that share the learner's GPUs: beside its workers, who own them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from rayalign.actors.process import runtime_env
from rayalign.errors import ActorFailedError, PlacementError
from rayalign.records import JsonObject


@dataclass(frozen=True, slots=True)
class Seat:
    """A node, and the GPUs there, by the ids that Ray gave to the workers who own them."""

    node_id: str
    gpus: tuple[str, ...]

    def options(self) -> dict[str, Any]:
        """How Ray starts an actor there: with none of the GPUs that it counts, as they are counted for the workers."""
        return {
            "num_gpus": 0,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(self.node_id, soft=False),
            "runtime_env": runtime_env(1, gpu=True, devices=self.gpus),
        }


def seats_of(workers: Sequence[JsonObject], each: int) -> list[Seat]:
    """One seat for every `each` workers of a node.

    Args:
        workers: what they say of themselves (`describe_process`).
        each: GPUs of one engine, all on one node.

    Raises:
        PlacementError: the workers of a node do not make whole seats.
    """
    nodes: dict[str, list[str]] = {}
    for worker in workers:
        nodes.setdefault(worker["node_id"], []).extend(worker.get("gpus", []))
    counts = [len(gpus) for gpus in nodes.values()]
    if odd := [count for count in counts if not count or count % each]:
        raise PlacementError(
            f"{max(odd)} of the learner's GPUs are on one node, and engines of {each} GPUs are to share them",
            "an engine's GPUs are all on one node",
            f"set cluster.generators.tensor_parallel and gpus to a divisor of {math.gcd(*counts) or 1}, or have nodes "
            "with as many GPUs each",
        )
    return [
        Seat(node, tuple(gpus[start : start + each]))
        for node, gpus in nodes.items()
        for start in range(0, len(gpus), each)
    ]


def check_kept(before: Sequence[JsonObject], now: Sequence[JsonObject]) -> None:
    """Refuse workers who were started anew on other GPUs than those beside which the generators sit.

    Raises:
        ActorFailedError: they were.
    """
    places = [sorted((worker["node_id"], *worker.get("gpus", [])) for worker in workers) for workers in (before, now)]
    if places[0] != places[1]:
        raise ActorFailedError(
            "the learner's workers were started again on other GPUs",
            "the generators are on those that the workers had before, which are nobody's now",
            "run the same command again: it begins with both on the same ones",
        )
