"""Who else is told what the loop tells its reporter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class StageState:
    """How far a stage is."""

    name: str
    round_index: int
    done: int
    """Items, those under way and those of an earlier attempt included."""
    total: int
    running: bool
    """False once it has ended, however it did."""


class Sink(Protocol):
    """Is told of events and stages by `RunReporter`. Returns at once, and raises nothing."""

    def event(self, kind: str, fields: Mapping[str, object]) -> None:
        """An event as `metrics.jsonl` has it."""
        ...

    def stage(self, state: StageState) -> None:
        """A stage began, got further or ended; may come from several threads."""
        ...

    def close(self) -> None:
        """Nothing more comes; what is left to do may take a while."""
        ...
