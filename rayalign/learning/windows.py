"""Layers that look back a limited number of tokens: which they are, and their attention over a packed tree."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import PretrainedConfig

from rayalign.learning.packing import Tree

CHUNK = 512
"""Queries of a path that are computed together, with the keys that any of them sees."""
LIMITED = ("sliding", "chunked", "compressed")
"""What kinds of layers are called that look back a limited number of tokens."""


def layer_windows(config: PretrainedConfig) -> list[int | None]:
    """For each layer, the tokens that it looks back at, itself included; None where it sees everything."""
    layers, kinds = int(getattr(config, "num_hidden_layers", 0)), getattr(config, "layer_types", None)
    window = getattr(config, "sliding_window", None) or getattr(config, "attention_chunk_size", None)
    if getattr(config, "use_sliding_window", True) is False or window is None:
        return [None] * layers
    if kinds is None:
        return [window] * layers
    return [window if any(word in kind for word in LIMITED) else None for kind in kinds]


_asked: list[int | None] | None = None


@contextmanager
def windows_asked() -> Iterator[list[int | None]]:
    """Context that lists the window of each call of attention, in their order."""
    global _asked
    _asked = found = []
    try:
        yield found
    finally:
        _asked = None


def note_window(window: int | None) -> None:
    if _asked is not None:
        _asked.append(window)


def path_positions(tree: Tree) -> torch.Tensor:
    """[T]: where each token of a tree stands in its path, which is the prompt and one response."""
    responses = [torch.arange(tree.prompt, tree.prompt + length) for length in tree.branches]
    return torch.cat([torch.arange(tree.prompt), *responses])


def windowed_tree(
    tree: Tree, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int, scaling: float | None
) -> list[torch.Tensor]:
    """Attention of a tree's tokens to those of their path within the window, in parts that follow each other.

    q, k and v: [1, H, T, D] of the tree. Only keys that a chunk of queries may see are multiplied.
    """
    parts = []
    place = 0
    for first, length in [(0, tree.prompt), *((tree.prompt, length) for length in tree.branches)]:
        # Positions of a path: those below `first` are the prompt's, the others begin at `place` in the tree.
        for start in range(first, first + length, CHUNK):
            end, low = min(start + CHUNK, first + length), max(0, start - window + 1)
            queries = slice(place + start - first, place + end - first)
            keys = [slice(low, first)] if low < first else []
            keys.append(slice(place + max(low, first) - first, place + end - first))
            near_k, near_v = (torch.cat([x[:, :, part] for part in keys], 2) for x in (k, v))
            behind = torch.arange(start, end, device=q.device)[:, None] - torch.arange(low, end, device=q.device)
            mask = (behind >= 0) & (behind < window)
            parts.append(scaled_dot_product_attention(q[:, :, queries], near_k, near_v, attn_mask=mask, scale=scaling))
        place += length
    return parts
