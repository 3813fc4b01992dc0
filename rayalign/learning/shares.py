"""Which share of an update is done: passes for the reference, then optimizer steps, each told as it goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rayalign.config.objective import Objective
from rayalign.config.training import TrainingSection
from rayalign.learning.objective import streams_compared

Note = Callable[[float], None]
"""Takes how much of something is done, 0 to 1."""


def reference_share(training: TrainingSection, objectives: Sequence[Objective]) -> float:
    """Which part of an update the learner's passes for the reference are, where anything is compared with one: a third
    of the steps' ones of each epoch, which go forward and backward."""
    return 1 / (1 + 3 * training.epochs) if streams_compared(objectives) else 0.0


def part(note: Note, number: int, parts: int, begin: float = 0.0, end: float = 1.0) -> Note:
    """What takes the share that is done of one of several equal parts, which together go from `begin` to `end`."""
    return lambda share: note(begin + (end - begin) * (number + share) / parts)
