"""What a round measured: metrics with intervals, in one report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self, TypedDict

from rayalign.records.json_types import JsonObject

SCHEMA_VERSION = 1


class MetricDict(TypedDict):
    """A `Metric` as JSON."""

    value: float
    n: int
    ci95: list[float]


@dataclass(frozen=True, slots=True)
class Metric:
    """A measured value with its 95 % interval.

    Example:
        >>> Metric(value=0.5, n=256, ci95=(0.45, 0.55)).to_dict()
        {'value': 0.5, 'n': 256, 'ci95': [0.45, 0.55]}
    """

    value: float
    n: int
    """How many answers (or pairs) it was measured on."""
    ci95: tuple[float, float]

    def to_dict(self) -> MetricDict:
        return {"value": self.value, "n": self.n, "ci95": list(self.ci95)}

    @classmethod
    def from_dict(cls, data: MetricDict) -> Self:
        return cls(value=data["value"], n=data["n"], ci95=(data["ci95"][0], data["ci95"][1]))


@dataclass(frozen=True, slots=True)
class EvalReport:
    """One round's evaluation on the held-out prompts: metric name -> `Metric` (names: DESIGN section 6)."""

    round_index: int
    adapter_version: int
    metrics: dict[str, Metric]

    def to_dict(self) -> JsonObject:
        return {
            "schema_version": SCHEMA_VERSION,
            "round": self.round_index,
            "adapter_version": self.adapter_version,
            "metrics": {name: metric.to_dict() for name, metric in self.metrics.items()},
        }

    @classmethod
    def from_dict(cls, data: JsonObject) -> Self:
        metrics = {name: Metric.from_dict(metric) for name, metric in data["metrics"].items()}
        return cls(data["round"], data["adapter_version"], metrics)
