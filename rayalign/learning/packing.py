"""Token ids of streams -> tensors for one forward pass, and log-probabilities back to their rows.

    packed     one sequence without padding; rows with the same prompt share it:  P1 a b c  P2 d e  P3 f
    padded     one row per stream, each with its own copy of the prompt, padded on the right

Both give the same log-probabilities; packed needs a model whose attention can be told who sees whom
(`learning.attention`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from rayalign.errors import DataError

Row = tuple[list[int], list[int]]
"""(prompt token ids, response token ids)."""


@dataclass(frozen=True, slots=True)
class Tree:
    """Where a prompt and the responses that share it stand in a packed sequence. The last token of a response predicts
    nothing and is left out."""

    start: int
    prompt: int
    """Tokens of the prompt."""
    branches: tuple[int, ...]
    """Tokens of each response, one after the other, behind the prompt."""

    @property
    def tokens(self) -> int:
        return self.prompt + sum(self.branches)


@dataclass(frozen=True, slots=True)
class Batch:
    """What both forms have: N response tokens in all, of B rows."""

    input_ids_BT: torch.Tensor
    predicting_N: torch.Tensor
    """Flat positions in [B * T] whose hidden state predicts a response token."""
    targets_N: torch.Tensor
    """The response tokens themselves, row by row."""
    lengths: tuple[int, ...]
    """Response tokens of each row."""
    attention_mask_BT: torch.Tensor | None = None
    """In a padded batch, 1 where a token stands."""
    position_ids_1T: torch.Tensor | None = None
    """In a packed batch, positions that start again behind the prompt for each response."""
    trees: tuple[Tree, ...] = ()
    """In a packed batch, who shares which prompt."""

    @property
    def packed(self) -> bool:
        return bool(self.trees)

    @property
    def rows(self) -> int:
        return len(self.lengths)

    @property
    def tokens(self) -> int:
        """Tokens that the model computes on, padding included."""
        return self.input_ids_BT.numel()

    def to(self, device: torch.device | str) -> Batch:
        def move(tensor: torch.Tensor | None) -> torch.Tensor | None:
            return None if tensor is None else tensor.to(device)

        return Batch(
            self.input_ids_BT.to(device),
            self.predicting_N.to(device),
            self.targets_N.to(device),
            self.lengths,
            move(self.attention_mask_BT),
            move(self.position_ids_1T),
            self.trees,
        )


def collate_padded(rows: Sequence[Row]) -> Batch:
    """Rows as a padded batch. A response without tokens is a row without targets.

    Raises:
        DataError: a prompt without tokens, which leaves nothing to predict the first response token from.
    """
    _check(rows)
    width = max(len(prompt) + len(response) for prompt, response in rows)
    input_ids_BT = torch.zeros(len(rows), width, dtype=torch.long)
    attention_mask_BT = torch.zeros(len(rows), width, dtype=torch.long)
    predicting = []
    for row, (prompt, response) in enumerate(rows):
        ids = torch.tensor(prompt + response, dtype=torch.long)
        input_ids_BT[row, : len(ids)] = ids
        attention_mask_BT[row, : len(ids)] = 1
        first = row * width + len(prompt) - 1
        predicting.append(torch.arange(first, first + len(response)))
    return Batch(
        input_ids_BT, torch.cat(predicting), _targets(rows), _lengths(rows), attention_mask_BT=attention_mask_BT
    )


def collate_packed(rows: Sequence[Row]) -> Batch:
    """Rows as one packed sequence; neighbours with the same prompt share it. Errors as `collate_padded`."""
    _check(rows)
    ids: list[int] = []
    positions: list[int] = []
    predicting: list[int] = []
    trees: list[Tree] = []
    for prompt, responses in _by_prompt(rows):
        start = len(ids)
        ids += prompt
        positions += range(len(prompt))
        branches = []
        for response in responses:
            if response:
                predicting.append(start + len(prompt) - 1)
                predicting += range(len(ids), len(ids) + len(response) - 1)
            seen = response[:-1]
            ids += seen
            positions += range(len(prompt), len(prompt) + len(seen))
            branches.append(len(seen))
        trees.append(Tree(start, len(prompt), tuple(branches)))
    return Batch(
        torch.tensor([ids]),
        torch.tensor(predicting, dtype=torch.long),
        _targets(rows),
        _lengths(rows),
        position_ids_1T=torch.tensor([positions]),
        trees=tuple(trees),
    )


def packed_tokens(rows: Sequence[Row]) -> int:
    """Tokens of these rows in a packed sequence."""
    return sum(len(p) + sum(max(0, len(r) - 1) for r in responses) for p, responses in _by_prompt(rows))


def padded_tokens(rows: Sequence[Row]) -> int:
    """Tokens of these rows in a padded batch, padding included."""
    return len(rows) * max((len(prompt) + len(response) for prompt, response in rows), default=0)


def split_per_row(logps_N: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, ...]:
    """The token log-probabilities of each row, [T] each; empty for a row without response tokens."""
    return logps_N.split(list(batch.lengths))


def _by_prompt(rows: Sequence[Row]) -> list[tuple[list[int], list[list[int]]]]:
    groups: list[tuple[list[int], list[list[int]]]] = []
    for prompt, response in rows:
        if groups and groups[-1][0] == prompt:
            groups[-1][1].append(response)
        else:
            groups.append((prompt, [response]))
    return groups


def _targets(rows: Sequence[Row]) -> torch.Tensor:
    return torch.tensor([token for _, response in rows for token in response], dtype=torch.long)


def _lengths(rows: Sequence[Row]) -> tuple[int, ...]:
    return tuple(len(response) for _, response in rows)


def _check(rows: Sequence[Row]) -> None:
    empty = next((i for i, (prompt, _) in enumerate(rows) if not prompt), None)
    if empty is not None:
        raise DataError(
            f"row {empty} has a prompt of 0 tokens",
            "nothing predicts its first response token",
            "give the model at least a BOS token: check prompts.template",
        )
