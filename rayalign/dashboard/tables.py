"""Tables of the page."""

from __future__ import annotations

from dataclasses import dataclass

Cell = tuple[str, str]
"""Text and small print."""
Rows = list[tuple[int | str, list[Cell]]]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows, each with a head."""

    title: str
    columns: list[str]
    rows: Rows
    heading: str = "round"
    """What the heads of the rows are."""
