"""Token ids of groups -> tensors for one forward pass, and log-probabilities back to their responses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from rayalign.errors import DataError


@dataclass(frozen=True, slots=True)
class Batch:
    """B rows of prompt + response, padded on the right to T tokens; N response tokens in all."""

    input_ids_BT: torch.Tensor
    attention_mask_BT: torch.Tensor
    predicting_N: torch.Tensor
    """Flat positions in [B * T] whose hidden state predicts a response token."""
    targets_N: torch.Tensor
    """The response tokens themselves, row by row."""
    row_N: torch.Tensor
    """The row that each response token belongs to."""

    @property
    def rows(self) -> int:
        return self.input_ids_BT.shape[0]

    def to(self, device: torch.device | str) -> Batch:
        return Batch(
            self.input_ids_BT.to(device),
            self.attention_mask_BT.to(device),
            self.predicting_N.to(device),
            self.targets_N.to(device),
            self.row_N.to(device),
        )


def collate(rows: Sequence[tuple[list[int], list[int]]]) -> Batch:
    """Rows of (prompt ids, response ids) as one batch. A response without tokens is a row without targets.

    Raises:
        DataError: a prompt without tokens, which leaves nothing to predict the first response token from.
    """
    width = max(len(prompt) + len(response) for prompt, response in rows)
    input_ids_BT = torch.zeros(len(rows), width, dtype=torch.long)
    attention_mask_BT = torch.zeros(len(rows), width, dtype=torch.long)
    predicting, targets, owners = [], [], []
    for row, (prompt, response) in enumerate(rows):
        if not prompt:
            raise DataError(f"row {row} has a prompt of 0 tokens", "nothing predicts its first response token")
        ids = torch.tensor(prompt + response, dtype=torch.long)
        input_ids_BT[row, : len(ids)] = ids
        attention_mask_BT[row, : len(ids)] = 1
        first = row * width + len(prompt) - 1
        predicting.append(torch.arange(first, first + len(response)))
        targets.append(ids[len(prompt) :])
        owners.append(torch.full((len(response),), row))
    return Batch(input_ids_BT, attention_mask_BT, torch.cat(predicting), torch.cat(targets), torch.cat(owners))


def sum_per_row(logps_N: torch.Tensor, batch: Batch) -> torch.Tensor:
    """[B] float32: the summed response log-probabilities of each row; 0 for a row without response tokens."""
    return logps_N.new_zeros(batch.rows).index_add(0, batch.row_N, logps_N)


def split_per_row(logps_N: torch.Tensor, batch: Batch) -> list[list[float]]:
    """Token log-probabilities, row by row."""
    counts = torch.bincount(batch.row_N, minlength=batch.rows).tolist()
    return [part.tolist() for part in logps_N.split(counts)]


def pad_groups(values: torch.Tensor, sizes: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Values of all responses in a row -> ([G, K] with zeros in the slots a ragged group lacks, mask [G, K])."""
    width = max(sizes)
    mask_GK = torch.tensor([[slot < size for slot in range(width)] for size in sizes], device=values.device)
    padded_GK = values.new_zeros(len(sizes), width).masked_scatter(mask_GK, values)
    return padded_GK, mask_GK
