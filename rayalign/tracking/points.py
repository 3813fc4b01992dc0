"""A round's report as points of curves: names and numbers, the same for every tracker."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TypeGuard

SECTIONS = {
    "metrics": "",
    "training": "training/",
    "stages": "stage/",
    "sync": "sync/",
    "groups": "groups/",
    "scores": "scores/",
    "turns": "turns/",
    "benchmarks": "benchmark/",
    "comparisons": "comparison/",
}
"""Section of `report.json` -> what the names of its points begin with."""
TRUSTED = ("scorers", "drift", "gap", "agreement")
"""Parts of `trust` that have points."""
IDENTITIES = {"n", "round", "version"}
"""Numbers that count or name what another number was measured on."""


def points_of(report: Mapping[str, object]) -> dict[str, float]:
    """All finite numbers of a round's report by name.

    A metric `{"value", "n", "ci95"}` gives its value under its own name, and the ends of its interval under
    `ci95_low/NAME` and `ci95_high/NAME`; other numbers are named by where they stand, parts joined by `/`.
    """
    found: dict[str, float] = {}
    for section, start in SECTIONS.items():
        found |= _flat(start, report.get(section))
    trust = report.get("trust")
    if isinstance(trust, Mapping):
        for part in TRUSTED:
            found |= _flat(f"{part}/", trust.get(part))
        found["alarms"] = float(len(trust.get("alarms") or ()))
    return found


def _flat(start: str, value: object) -> dict[str, float]:
    """The numbers in an object, each by its keys."""
    return dict(_walk(start, value)) if isinstance(value, Mapping) else {}


def _walk(start: str, values: Mapping[str, object]) -> Iterator[tuple[str, float]]:
    for key, value in values.items():
        name = f"{start}{key}"
        if isinstance(value, Mapping) and "value" in value:
            yield from _metric(name, value)
        elif isinstance(value, Mapping):
            yield from _walk(f"{start}{key}/" if key != "metrics" else start, value)
        elif _is_number(value) and key not in IDENTITIES:
            yield name, float(value)


def _metric(name: str, metric: Mapping[str, object]) -> Iterator[tuple[str, float]]:
    if _is_number(metric["value"]):
        yield name, float(metric["value"])
    ends = metric.get("ci95")
    if isinstance(ends, list | tuple) and len(ends) == 2:
        for side, end in zip(("low", "high"), ends, strict=True):
            if _is_number(end):
                yield f"ci95_{side}/{name}", float(end)


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
