"""What several commands' arguments may be."""

from __future__ import annotations

import click


def round_or_best(value: str) -> int | str:
    """A round's number, or `best`."""
    return value if value == "best" else click.IntRange(min=0)(value)
