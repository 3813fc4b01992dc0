"""How busy a pool is."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(slots=True)
class PoolUse:
    """How busy the replicas that were ready were, while there were items for them."""

    most: int = 0
    busy_s: float = 0.0
    there_s: float = 0.0
    _since: float | None = None
    _busy: int = 0
    _there: int = 0

    def note(self, busy: int, there: int, more: bool) -> None:
        """From now on: how many replicas have calls, how many are ready, and whether there are items for them."""
        now = time.monotonic()
        if self._since is not None:
            self.busy_s += (now - self._since) * self._busy
            self.there_s += (now - self._since) * self._there
        self._since, self._busy, self._there = (now if more else None), min(busy, there), there
        self.most = max(self.most, there)

    @property
    def share(self) -> float:
        return self.busy_s / self.there_s if self.there_s else 1.0
