"""What every scoring backend is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rayalign.records import Prompt, Sample, Score


class Backend(Protocol):
    """Scores samples. A score that could not be made is missing (`abstain`, `error`, `timeout`), never a number."""

    name: str
    version: str
    """Changes whenever the backend could give another score for the same sample."""

    def score(self, prompts: Sequence[Prompt], samples: Sequence[Sample]) -> list[Score]:
        """One score per sample, in their order; `prompts` holds the prompt of each."""
        ...

    def close(self) -> None:
        """End what the backend started."""
        ...
