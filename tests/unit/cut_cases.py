"""Random and hand-made batches for the tests of CUT."""

from __future__ import annotations

import math

import torch
from hypothesis import strategies as st

from tests.unit.loss_cases import padded

LN2 = math.log(2)
TOKENS = st.lists(st.tuples(st.floats(-30, -1e-3), st.floats(-30, -1e-3)), max_size=6)
ROWS = st.lists(st.tuples(st.booleans(), TOKENS), min_size=1, max_size=4)
SETTINGS = {"threshold": 1.1, "weight": 0.5, "gamma": 0.5}
Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def batch_of(rows: list, *, extra: int = 0, left: bool = False, fill: float = 0.0) -> Batch:
    """(negative, [(plain, judged), ...]) per row."""
    width = max(len(tokens) for _, tokens in rows) + extra
    plain, mask = padded([[p for p, _ in tokens] for _, tokens in rows], width, fill, left=left)
    judged, _ = padded([[j for _, j in tokens] for _, tokens in rows], width, fill, left=left)
    return plain.requires_grad_(), judged.requires_grad_(), mask, torch.tensor([negative for negative, _ in rows])


def negative_row(plain: list[float], judged: list[float], dtype: torch.dtype = torch.float64) -> Batch:
    mask = torch.ones(1, len(plain), dtype=torch.bool)
    tensors = (torch.tensor([values], dtype=dtype, requires_grad=True) for values in (plain, judged))
    return (*tensors, mask, torch.tensor([True]))  # type: ignore[return-value]
