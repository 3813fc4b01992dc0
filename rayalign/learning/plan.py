"""Which rank takes which groups in which micro-batch and step: a pure function, the same on every rank."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step."""

    groups: int
    """Groups over all ranks; losses are sums divided by this count."""
    ranks: tuple[tuple[tuple[int, ...], ...], ...]
    """rank -> micro-batches -> group positions. Every rank has equally many micro-batches, empty ones included."""


def plan_steps(
    tokens: Sequence[int],
    *,
    seed: int,
    round_index: int,
    epochs: int,
    group_batch: int,
    tokens_per_micro_batch: int,
    workers: int,
) -> list[Step]:
    """Shuffle the groups of a round, cut them into steps, and balance each step over the ranks.

    Args:
        tokens: tokens of each group (every response with its prompt), in the order of the group files.
        group_batch: groups per step, over all ranks; the last step of an epoch may have fewer.
        tokens_per_micro_batch: budget of one forward pass; a group above it gets a micro-batch of its own.
    """
    steps = []
    for epoch in range(epochs):
        order = list(range(len(tokens)))
        random.Random(f"plan:{seed}:{round_index}:{epoch}").shuffle(order)
        for start in range(0, len(order), group_batch):
            chosen = order[start : start + group_batch]
            steps.append(_balance(chosen, tokens, tokens_per_micro_batch, workers))
    return steps


def _balance(chosen: list[int], tokens: Sequence[int], budget: int, workers: int) -> Step:
    shares: list[list[int]] = [[] for _ in range(workers)]
    loads = [0] * workers
    for group in sorted(chosen, key=lambda g: (-tokens[g], g)):
        rank = loads.index(min(loads))
        shares[rank].append(group)
        loads[rank] += tokens[group]
    ranks = [_micro_batches(share, tokens, budget) for share in shares]
    longest = max(len(micro_batches) for micro_batches in ranks)
    padded = tuple(tuple(batches) + ((),) * (longest - len(batches)) for batches in ranks)
    return Step(groups=len(chosen), ranks=padded)


def _micro_batches(share: list[int], tokens: Sequence[int], budget: int) -> list[tuple[int, ...]]:
    """Groups in descending size, so that those of one micro-batch are alike and little is padded."""
    batches: list[tuple[int, ...]] = []
    current: list[int] = []
    for group in share:
        if current and sum(tokens[g] for g in current) + tokens[group] > budget:
            batches.append(tuple(current))
            current = []
        current.append(group)
    if current:
        batches.append(tuple(current))
    return batches
