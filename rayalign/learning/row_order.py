"""The order in which rows are trained on: batches of about one length over a shuffled epoch."""

from __future__ import annotations

import random
from collections.abc import Sequence

from rayalign.records import IGNORED

BUCKET = 16
"""Batches whose rows are sorted by length together, where the data's order is kept."""


def plan_order(lengths: Sequence[int], *, batch: int, epochs: int, seed: int, shuffled: bool) -> list[int]:
    """Positions of the rows as they are trained on, `batch` to a step: a pure function of its arguments.

    Rows of similar length share a batch: shuffled, of a whole epoch; else within buckets of some batches, which keeps
    the data's order on the large. A last batch that is not full is filled up with the first rows again.
    """
    rng = random.Random(f"stage rows {seed}")
    drawn: list[int] = []
    for _ in range(epochs):
        rows = list(range(len(lengths)))
        if shuffled:
            rng.shuffle(rows)
        drawn += rows
    short = -len(drawn) % batch
    drawn += (drawn * (short // max(1, len(drawn)) + 1))[:short]
    ordered = []
    size = -(-len(lengths) // batch) * batch if shuffled else BUCKET * batch
    for start in range(0, len(drawn), size):
        bucket = sorted(drawn[start : start + size], key=lambda row: lengths[row])
        batches = [bucket[place : place + batch] for place in range(0, len(bucket), batch)]
        rng.shuffle(batches)
        ordered += [row for rows_of_batch in batches for row in rows_of_batch]
    return ordered


def row_length(row: dict[str, list[int]]) -> int:
    """The length that rows are sorted by: an answer's prompt, as answers of one length together teach to stop badly."""
    if "labels" in row:
        return row["labels"].count(IGNORED)
    return max(len(row["chosen_ids"]), len(row["rejected_ids"]))
