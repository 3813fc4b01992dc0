"""Rewards of one scorer brought to a scale: within each prompt, or by a line fitted on measured pairs. Pure.

A missing reward stays missing and counts nowhere.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rayalign.errors import DataError

Rewards = Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Line:
    """target = slope x raw + intercept."""

    slope: float
    intercept: float

    def __call__(self, raw: float) -> float:
        return self.slope * raw + self.intercept

    @property
    def version(self) -> str:
        return hashlib.sha256(f"{self.slope!r} {self.intercept!r}".encode()).hexdigest()[:16]


def zscore(rewards: Rewards) -> list[float | None]:
    """(reward - mean) / standard deviation (population) among one prompt's answers; equal rewards give 0."""
    known = [reward for reward in rewards if reward is not None]
    if not known:
        return list(rewards)
    # A power of two changes no result, and keeps the squares of very large and very small rewards in range.
    scale = math.frexp(max(map(abs, known)))[1]
    scaled = [None if reward is None else math.ldexp(reward, -scale) for reward in rewards]
    known = [reward for reward in scaled if reward is not None]
    mean = math.fsum(known) / len(known)
    spread = math.sqrt(math.fsum((reward - mean) ** 2 for reward in known) / len(known))
    # Compared with the values: rounding of the mean alone leaves a spread that is not quite 0.
    equal = max(known) == min(known) or spread == 0.0
    return [None if reward is None else 0.0 if equal else (reward - mean) / spread for reward in scaled]


def rank(rewards: Rewards) -> list[float | None]:
    """Place among a prompt's answers from 0 (worst) to 1 (best); equal rewards share the mean place, one alone: 0.5."""
    known = sorted(reward for reward in rewards if reward is not None)
    if len(known) == 1:
        return [None if reward is None else 0.5 for reward in rewards]
    places: dict[float, float] = {}
    for reward in set(known):
        first, count = known.index(reward), known.count(reward)
        places[reward] = (first + (count - 1) / 2) / (len(known) - 1)
    return [None if reward is None else places[reward] for reward in rewards]


WITHIN_PROMPT: dict[str, Callable[[Rewards], list[float | None]]] = {"zscore": zscore, "rank": rank}


def calibrate(rewards: Rewards, prompt_ids: Sequence[str], kind: str, line: Line | None = None) -> list[float | None]:
    """One scorer's rewards, calibrated; those of a prompt are taken together wherever they stand.

    Args:
        kind: `none`, `zscore`, `rank`, or `linear` with a `line`.
    """
    if kind == "linear":
        assert line is not None
        return [None if reward is None else line(reward) for reward in rewards]
    if kind == "none":
        return list(rewards)
    places: dict[str, list[int]] = {}
    for place, (_, prompt_id) in enumerate(zip(rewards, prompt_ids, strict=True)):
        places.setdefault(prompt_id, []).append(place)
    found: list[float | None] = [None] * len(rewards)
    for group in places.values():
        values = WITHIN_PROMPT[kind]([rewards[place] for place in group])
        for place, value in zip(group, values, strict=True):
            found[place] = value
    return found


def fit_line(pairs: Sequence[tuple[float, float]]) -> Line:
    """Least squares of target on raw.

    Raises:
        ValueError: fewer than two different raw values.
    """
    count = len(pairs)
    if len({raw for raw, _ in pairs}) < 2:
        raise ValueError("a line needs at least two different raw values")
    mean_raw = math.fsum(raw for raw, _ in pairs) / count
    mean_target = math.fsum(target for _, target in pairs) / count
    spread = math.fsum((raw - mean_raw) ** 2 for raw, _ in pairs)
    shared = math.fsum((raw - mean_raw) * (target - mean_target) for raw, target in pairs)
    slope = shared / spread if spread else math.nan
    line = Line(slope, mean_target - slope * mean_raw)
    if not math.isfinite(line.slope) or not math.isfinite(line.intercept):
        raise ValueError("the numbers are too large or too close together for a line")
    return line


def read_line(path: Path) -> Line:
    """Fit a line on a JSONL file of {"raw": number, "target": number}.

    Raises:
        DataError: the file cannot be read, a row is not of that form, or the rows do not determine a line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"scoring.calibration.file: {path} cannot be read", str(error), "save it as UTF-8") from None
    pairs = [_pair(text, f"{path}, line {number}") for number, text in enumerate(lines, 1) if text.strip()]
    try:
        return fit_line(pairs)
    except (ValueError, OverflowError) as error:
        raise DataError(
            f"scoring.calibration.file: {path} with {len(pairs)} rows",
            str(error),
            "give it more, and different, measured pairs",
        ) from None


def _pair(text: str, where: str) -> tuple[float, float]:
    try:
        row: dict[str, object] = json.loads(text)
        values = [row["raw"], row["target"]]
    except (json.JSONDecodeError, KeyError, TypeError):
        values = []
    numbers = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)]
    if len(numbers) != 2:
        raise DataError(
            f"{where}: {text.strip()[:80]!r}",
            "it has no finite numbers `raw` and `target`",
            'write each row as {"raw": 0.3, "target": 1.0}',
        )
    return numbers[0], numbers[1]
