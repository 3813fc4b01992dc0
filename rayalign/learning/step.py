"""One optimizer step, in plain torch: forward, loss, backward, and the checks before the update.

The same code runs under a DeepSpeed engine (`actors.learner`) and under plain torch (tests, benchmarks): only
`backward` differs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from rayalign.config.objective import Objective
from rayalign.config.training import TrainingSection
from rayalign.learning.objective import Means, objective_loss, streams_compared, streams_needed
from rayalign.learning.packing import Batch, Row, collate_padded, packed_tokens, padded_tokens, split_per_row
from rayalign.learning.streams import GroupLogps, Stream, streams_of
from rayalign.records import TrainingGroup

PolicyForward = Callable[..., torch.Tensor]
References = dict[tuple[str, int], float]
"""(kind, index) of a stream -> its summed log-probability under the reference."""
ScoreRows = Callable[[Sequence[Row]], list[list[float]]]
"""Token log-probabilities of rows, in their order."""
Collate = Callable[[Sequence[Row]], Batch]
"""`Policy.collate`, or one of the two forms in `packing`."""


@dataclass(frozen=True, slots=True)
class StepContext:
    """What stays the same over a round."""

    objectives: Sequence[Objective]
    round_index: int
    device: torch.device | str = "cpu"
    collate: Collate = collate_padded


def rows_of(streams: Sequence[Stream]) -> list[Row]:
    return [(stream.prompt_token_ids, stream.response_token_ids) for stream in streams]


def group_tokens(streams: Sequence[Stream], *, packed: bool = False) -> int:
    """Tokens of a group in one forward pass."""
    rows = rows_of(streams)
    return packed_tokens(rows) if packed else padded_tokens(rows)


def learning_rate(training: TrainingSection, round_index: int, step: int, steps: int) -> float:
    """Learning rate of one step: the config's value, decayed per round, shaped over the round's steps.

    Linear and cosine start at the full rate (after the warm-up) and reach zero after the last step.
    """
    schedule = training.schedule
    peak = training.peak_rate(round_index)
    warmup = math.ceil(round(schedule.warmup * steps, 6))
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    shape = {"linear": 1 - progress, "cosine": (1 + math.cos(math.pi * progress)) / 2, "constant": 1.0}
    return peak * shape[schedule.type]


@torch.no_grad()
def token_logps_of(
    policy: PolicyForward,
    rows: Sequence[Row],
    device: torch.device | str,
    tokens_per_micro_batch: int,
    collate: Collate = collate_padded,
    *,
    packed: bool = False,
    passes: Callable[[int], int] = lambda needed: needed,
    note: Callable[[float], None] = lambda share: None,
) -> list[list[float]]:
    """Token log-probabilities of each row, in order, computed in micro-batches.

    Rows go by length, which saves padding; neighbours with one prompt stay together, which lets them share it.

    Args:
        packed: whether `collate` packs; rows that share a prompt then share a pass.
        passes: from the number of forward passes that these rows need to the number to make. Where parameters are
            spread over workers, all of them make as many.
        note: told before each pass which share of them is done, 0 to 1.
    """
    results: list[list[float]] = [[] for _ in rows]
    micro_batches = list(_within_budget(rows, tokens_per_micro_batch, packed=packed))
    total = passes(len(micro_batches))
    for number, chosen in enumerate(micro_batches):
        note(number / total)
        batch = collate([rows[i] for i in chosen]).to(device)
        for i, logps in zip(chosen, split_per_row(policy(batch), batch), strict=True):
            results[i] = logps.tolist()
    for _ in range(total - len(micro_batches)):
        policy(idle_batch(collate).to(device))
    return results


def _within_budget(rows: Sequence[Row], budget: int, *, packed: bool) -> Iterator[list[int]]:
    """Positions of rows for each pass, so that its tokens stay within the budget; what cannot be divided may not."""
    runs = [list(run) for _, run in itertools.groupby(range(len(rows)), key=lambda i: rows[i][0])]
    runs.sort(key=lambda run: max(len(rows[i][0]) + len(rows[i][1]) for i in run))
    pieces = runs if packed else [[i] for run in runs for i in run]
    count = packed_tokens if packed else padded_tokens
    taken: list[int] = []
    for piece in pieces:
        if taken and count([rows[i] for i in taken + piece]) > budget:
            yield taken
            taken = []
        taken = taken + piece
    if taken:
        yield taken


def reference_sums(
    score: ScoreRows, groups: dict[int, TrainingGroup], objectives: Sequence[Objective]
) -> dict[int, References]:
    """For each group, the summed log-probability of every stream that an objective compares with the reference.

    Args:
        score: token log-probabilities of rows under the reference.
    """
    kinds = streams_compared(objectives)
    keyed = [(i, stream) for i, group in groups.items() for stream in streams_of(group, kinds)]
    logps = score(rows_of([stream for _, stream in keyed]))
    sums: dict[int, References] = {i: {} for i in groups}
    for (i, stream), values in zip(keyed, logps, strict=True):
        sums[i][stream.kind, stream.index] = sum(values)
    return sums


def generator_sums(group: TrainingGroup) -> References:
    """A group's `reference_sums` as the generator saw them: it sampled the responses under the reference itself."""
    return {("response", k): sum(logps) for k, logps in enumerate(group.response_logprobs)}


def reference_gap(score: ScoreRows, groups: Sequence[TrainingGroup]) -> tuple[float, int]:
    """(sum over response tokens of |learner's - generator's log-probability|, response tokens)."""
    streams = [stream for group in groups for stream in streams_of(group, {"response"})]
    theirs = [logps for group in groups for logps in group.response_logprobs]
    gaps = [
        abs(a - b)
        for ours, sampled in zip(score(rows_of(streams)), theirs, strict=True)
        for a, b in zip(ours, sampled, strict=True)
    ]
    return sum(gaps), len(gaps)


def micro_batch_loss(
    policy: torch.nn.Module,
    groups: Sequence[TrainingGroup],
    references: Sequence[References],
    context: StepContext,
    step_units: dict[str, int],
) -> tuple[torch.Tensor, Means]:
    """(a micro-batch's part of the step's loss, its part of the step's metrics); the parts add up.

    Groups without any stream (ILF's, where every response is without fault) are an empty micro-batch.

    Args:
        references: the `reference_sums` of each group.
        step_units: `count_units` over the whole step.
    """
    kinds = streams_needed(context.objectives)
    streams = [streams_of(group, kinds) for group in groups]
    together = [stream for of_group in streams for stream in of_group]
    if not together:
        return empty_loss(policy, context), Means()
    batch = context.collate(rows_of(together)).to(context.device)
    logps_N = policy(batch)
    rows = iter(split_per_row(logps_N, batch))
    logps = [
        GroupLogps(
            group,
            {(stream.kind, stream.index): next(rows) for stream in of_group},
            {key: logps_N.new_tensor(value) for key, value in reference.items()},
        )
        for group, of_group, reference in zip(groups, streams, references, strict=True)
    ]
    return objective_loss(context.objectives, logps, context.round_index, step_units)


def empty_loss(policy: PolicyForward, context: StepContext) -> torch.Tensor:
    """A loss of zero that has gone through the whole policy: the backward of an empty micro-batch.

    With parameters spread over the workers, each forward and backward pass is one that all of them make together.
    """
    return policy(idle_batch(context.collate).to(context.device)).sum() * 0.0


def idle_batch(collate: Collate) -> Batch:
    """The smallest batch there is."""
    return collate([([0], [0])])


class FiniteWatch:
    """Notes gradients that are not finite as they are made: an engine may sum, split or free them before its step."""

    def __init__(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        self._bad: torch.Tensor | None = None
        """Made where the first gradient is: parameters may be elsewhere before."""
        for parameter in parameters:
            parameter.register_hook(self._look)

    def take(self) -> bool:
        """Whether every gradient since the last call was finite."""
        bad, self._bad = self._bad, None
        return bad is None or not bool(bad)

    def _look(self, gradient: torch.Tensor) -> None:
        bad = ~torch.isfinite(gradient).all()
        self._bad = bad if self._bad is None else self._bad | bad


def means_of(history: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of every figure over the steps that have it."""
    names = {name for row in history for name in row}
    finite = {name: [row[name] for row in history if name in row and row[name] == row[name]] for name in sorted(names)}
    return {name: sum(values) / len(values) for name, values in finite.items() if values}
