"""What a tracker is, and what it is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypedDict

from rayalign.records import JsonObject


class Answer(TypedDict):
    """One of a round's answers to held-out prompts, for reading."""

    prompt: str
    response: str
    reward: float | None


@dataclass(frozen=True, slots=True)
class Told:
    """What trackers are told of a finished round."""

    round_index: int
    points: Mapping[str, float]
    """By the names of `points_of`."""
    answers: Sequence[Answer]


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """A run, as a tracker begins or goes on with it."""

    name: str
    config: JsonObject
    """The whole config, secrets redacted."""
    id: str
    """The tracker's own name of the run, the same in every attempt; in the first a fresh one."""
    begun: bool
    """Whether an earlier attempt told it anything."""
    next_round: int
    """The first round that it lacks."""


class Tracker(Protocol):
    """Takes a run's rounds, in order and each once. Everything here may raise anything: the run goes on.

    Made by the driver, used in one thread of its own.
    """

    def open(self, run: TrackedRun) -> str:
        """Begin the run, or go on with it; returns its id."""
        ...

    def tell(self, told: Told) -> None: ...

    def close(self) -> None:
        """Send what is left, and end."""
        ...


COLUMNS = ("prompt", "response", "reward")
"""Of a table of answers."""


def flat(config: Mapping[str, object], start: str = "") -> dict[str, str | int | float | bool]:
    """A config as parameters: `training.lr` -> value; lists and nulls as text."""
    found: dict[str, str | int | float | bool] = {}
    for key, value in config.items():
        name = f"{start}{key}"
        if isinstance(value, Mapping):
            found |= flat(value, f"{name}.")
        elif isinstance(value, list) and all(isinstance(item, Mapping) for item in value):
            for place, item in enumerate(value):
                found |= flat(item, f"{name}.{place}.")
        else:
            found[name] = value if isinstance(value, str | int | float) else str(value)
    return found


def made_folder(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
