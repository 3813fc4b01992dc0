"""Report files read back without trust: what is not a number is missing, what HTML cannot hold is replaced."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

NOT_TEXT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
LARGEST = 1e100
"""Beyond this a number says nothing to a reader, and differences of such numbers overflow."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A metric's value and, if it has one, its 95 % interval."""

    value: float
    ci95: tuple[float, float] | None = None


def number(value: Any) -> float | None:
    """`value` if it is a finite number of a sane size, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < LARGEST else None


def reading(metric: Any) -> Reading | None:
    """The content of one `{"value", "n", "ci95"}`; None where the value is missing."""
    if not isinstance(metric, dict):
        return None
    value, bounds = number(metric.get("value")), metric.get("ci95")
    if value is None:
        return None
    if not isinstance(bounds, list | tuple) or len(bounds) != 2:
        return Reading(value)
    low, high = number(bounds[0]), number(bounds[1])
    return Reading(value) if low is None or high is None else Reading(value, (min(low, high), max(low, high)))


def clean(value: Any) -> Any:
    """JSON with every text fit for HTML: control codes as their pictures, lone surrogates as U+FFFD."""
    if isinstance(value, str):
        return NOT_TEXT.sub(_picture, value.replace("\r\n", "\n"))
    if isinstance(value, dict):
        return {clean(key): clean(item) for key, item in value.items()}
    return [clean(item) for item in value] if isinstance(value, list) else value


def _picture(match: re.Match[str]) -> str:
    code = ord(match.group())
    return chr(0x2400 + code) if code < 0x20 else "\u2421" if code == 0x7F else "\ufffd"
