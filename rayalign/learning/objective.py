"""From the config's objectives to one loss over a micro-batch of groups.

A family says which streams an objective reads and how many units (groups, pairs, rows) its mean runs over in a group;
the losses themselves are in `rayalign.losses`. A step's loss is, for each objective, the sum over its units divided by
the step's number of units, so that micro-batches and workers do not change it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from rayalign.config.base import value_at
from rayalign.config.objective import KWayObjective, Objective
from rayalign.learning.families import FAMILIES
from rayalign.learning.streams import GroupLogps
from rayalign.records import TrainingGroup


def settled(objectives: Sequence[Objective], round_index: int, spread: float | None) -> list[Objective]:
    """The objectives with a number for every alpha that is `auto`. Arguments and errors as of `alpha_at`."""
    return [
        one.model_copy(update={"alpha": one.alpha_at(round_index, spread)})
        if isinstance(one, KWayObjective) and one.alpha == "auto"
        else one
        for one in objectives
    ]


def automatic_alpha(objectives: Sequence[Objective], round_index: int, spread: float | None) -> dict[str, float]:
    """`alpha` of a round, for its metrics, where an objective's is `auto`."""
    automatic = (one for one in objectives if isinstance(one, KWayObjective) and one.alpha == "auto")
    return next(({"alpha": one.alpha_at(round_index, spread)} for one in automatic), {})


def streams_needed(objectives: Sequence[Objective]) -> frozenset[str]:
    return frozenset(kind for objective in objectives for kind in FAMILIES[objective.type].streams)


def streams_compared(objectives: Sequence[Objective]) -> frozenset[str]:
    """Streams whose reference log-probabilities are needed."""
    return frozenset(kind for objective in objectives for kind in FAMILIES[objective.type].compared)


def count_units(objectives: Sequence[Objective], groups: Sequence[TrainingGroup]) -> dict[str, int]:
    """Units of each objective (by type) in these groups."""
    return {o.type: sum(FAMILIES[o.type].units(o, group) for group in groups) for o in objectives}


def objective_loss(
    objectives: Sequence[Objective], groups: Sequence[GroupLogps], round_index: int, step_units: dict[str, int]
) -> tuple[torch.Tensor, Means]:
    """This micro-batch's part of the step's loss and metrics; the parts of all micro-batches and ranks add up.

    Args:
        step_units: units of each objective over the whole step, all ranks.

    Returns:
        (scalar loss, metrics), each objective's own loss among them as `loss/<type>`.
    """
    total = torch.stack([logps.sum() * 0.0 for g in groups for logps in g.tokens.values()]).sum()
    metrics = Means()
    for objective in objectives:
        family = FAMILIES[objective.type]
        used = [g for g in groups if family.units(objective, g.group)]
        if not used:
            continue
        output = family.losses(objective, used, round_index)
        total = total + value_at(objective.weight, round_index) * output.per_group.sum() / step_units[objective.type]
        for name, value in {**output.metrics, f"loss/{objective.type}": output.loss.detach()}.items():
            metrics.add(name, float(value), len(output.per_group))
    return total, metrics


class Means:
    """Weighted means that are built up part by part; what is not a number counts nowhere."""

    def __init__(self) -> None:
        self.sums: dict[str, tuple[float, float]] = {}
        """name -> (sum of weight x value, sum of weights)."""

    def add(self, name: str, value: float, weight: float) -> None:
        if not math.isnan(value):
            total, weights = self.sums.get(name, (0.0, 0.0))
            self.sums[name] = (total + value * weight, weights + weight)

    def merge(self, other: Means) -> None:
        for name, (total, weight) in other.sums.items():
            mine, weights = self.sums.get(name, (0.0, 0.0))
            self.sums[name] = (mine + total, weights + weight)

    def values(self) -> dict[str, float]:
        means = {name: total / weight for name, (total, weight) in sorted(self.sums.items())}
        if means.get("cut/negative_tokens"):
            # A ratio of sums: the mean of the micro-batches' own ratios would depend on how they were cut.
            means["cut/flagged_share"] = means["cut/flagged_tokens"] / means["cut/negative_tokens"]
        return means
