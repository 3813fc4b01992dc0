"""Whether a model's attention takes the layout of packed rows, seen on its own log-probabilities.

In float32 packed and padded rows give the same. Rounded weights (bfloat16, four bits) may carry what two kernels round
differently to tenths of a nat per token; there the difference has to be small beside what layouts that are wrong make,
and tokens of other rows must not change anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from rayalign.learning.packing import Batch, Row, Tree, collate_packed

SHORT = ((3, (2, 1)), (2, (3, 2)))
"""Rows of so many tokens: of each prompt, and of its responses. No window is as short."""
LONG = ((40, (20, 20, 12)), (24, (24, 8)))
"""With rounded weights: what rounding does averages out. No window of a model that is used is as short."""
NEARER = 2
"""So many times as far off must each wrong layout be; SmolLM2-135M in bfloat16 has 3.3 to 9."""
Forward = Callable[[Batch], torch.Tensor]


def rows_to_try(vocabulary: int, *, rounded: bool, seed: int = 0) -> list[Row]:
    """Rows of random tokens for weights that are float32, or rounded."""
    generator = torch.Generator().manual_seed(seed)

    def draw(length: int) -> list[int]:
        return torch.randint(vocabulary, (length,), generator=generator).tolist()

    trees = [(draw(prompt), responses) for prompt, responses in (LONG if rounded else SHORT)]
    return [(prompt, draw(response)) for prompt, responses in trees for response in responses]


def same(packed_N: torch.Tensor, padded_N: torch.Tensor) -> bool:
    """Whether log-probabilities are the same but for float32's rounding."""
    return torch.allclose(packed_N, padded_N, rtol=1e-2, atol=2e-2)


def same_but_rounded(
    forward: Forward, rows: Sequence[Row], padded_N: torch.Tensor, vocabulary: int, device: torch.device
) -> bool:
    """Whether rounding alone makes packed rows (`rows_to_try`) differ from padded ones.

    Args:
        forward: log-probabilities of a batch, with the attention that takes a layout.
    """
    batch = collate_packed(rows).to(device)
    packed_N = forward(batch)
    tokens = batch.input_ids_BT.shape[1]
    wrong = (
        replace(batch, trees=(Tree(0, tokens, ()),)),
        replace(batch, position_ids_1T=torch.arange(tokens, device=device)[None]),
    )
    off = NEARER * _off(packed_N, padded_N)
    if any(_off(forward(one), padded_N) < off for one in wrong):
        return False
    # The last row again, beside others.
    *first, sibling, _ = rows_to_try(vocabulary, rounded=True, seed=1)
    prompt, response = rows[-1]
    beside_N = forward(collate_packed([*first, (prompt, sibling[1]), (prompt, response)]).to(device))
    return same(beside_N[-len(response) :], packed_N[-len(response) :])


def _off(found_N: torch.Tensor, wanted_N: torch.Tensor) -> float:
    return float((found_N - wanted_N).abs().mean())
