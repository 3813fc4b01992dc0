"""Attention over packed sequences: every response sees its prompt and itself, nobody sees another prompt.

On CPU and wherever FlexAttention cannot be compiled, PyTorch's fused attention runs tree by tree: one call with a mask
for a small tree; for a large one a causal call for the prompt and one per response, so that no work is done on pairs
that may not see each other. On CUDA FlexAttention skips masked blocks over the whole sequence.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from rayalign.learning.packing import Tree

NAME = "rayalign_tree"
SMALL_TREE = 512
"""Tokens up to which a tree is computed in one masked call."""


@dataclass(frozen=True, eq=False)
class Layout:
    """Who sees whom in one packed sequence; made once per batch and used by every layer."""

    trees: tuple[Tree, ...]
    masks: tuple[torch.Tensor | None, ...]
    """For each small tree [T, T], True where a token may look; None for large ones."""
    branch_masks: tuple[tuple[torch.Tensor, ...], ...]
    """For each large tree, [R, P + R] per response."""
    block_mask: Any = None
    """FlexAttention's mask on CUDA."""


def make_layout(trees: Sequence[Tree], device: torch.device) -> Layout:
    if device.type == "cuda":
        return Layout(tuple(trees), (), (), _block_mask(trees, device))
    small = [tree.tokens <= SMALL_TREE for tree in trees]
    masks = tuple(tree_mask(tree).to(device) if is_small else None for tree, is_small in zip(trees, small, strict=True))
    branch_masks = tuple(
        () if is_small else tuple(_branch_mask(tree.prompt, length).to(device) for length in tree.branches)
        for tree, is_small in zip(trees, small, strict=True)
    )
    return Layout(tuple(trees), masks, branch_masks)


def tree_mask(tree: Tree) -> torch.Tensor:
    """[T, T] bool: the causal mask, less what other responses say."""
    branch_T = branch_ids(tree)
    causal_TT = torch.ones(tree.tokens, tree.tokens, dtype=torch.bool).tril()
    return causal_TT & ((branch_T[None] == -1) | (branch_T[None] == branch_T[:, None]))


def branch_ids(tree: Tree) -> torch.Tensor:
    """[T]: which response each token of a tree belongs to; -1 for the prompt."""
    lengths = torch.tensor([tree.prompt, *tree.branches])
    return torch.repeat_interleave(torch.arange(-1, len(tree.branches)), lengths)


def _branch_mask(prompt: int, length: int) -> torch.Tensor:
    return torch.ones(length, prompt + length, dtype=torch.bool).tril(diagonal=prompt)


def _block_mask(trees: Sequence[Tree], device: torch.device) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    see, tokens = visible(trees, device), sum(tree.tokens for tree in trees)
    return create_block_mask(see, None, None, tokens, tokens, device=device)


def visible(trees: Sequence[Tree], device: torch.device) -> Any:
    """FlexAttention's mask function for these trees: may the token at `q` look at the one at `k`?"""
    tree_T = torch.repeat_interleave(torch.arange(len(trees)), torch.tensor([tree.tokens for tree in trees])).to(device)
    branch_T = torch.cat([branch_ids(tree) for tree in trees]).to(device)

    def see(b: Any, h: Any, q: Any, k: Any) -> Any:
        same_branch = (branch_T[k] == -1) | (branch_T[k] == branch_T[q])
        return (tree_T[q] == tree_T[k]) & (k <= q) & same_branch

    return see


def tree_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    layout: Layout | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Hugging Face's attention interface: query [1, H, T, D], key and value [1, H / groups, T, D] -> [1, T, H, D].

    Without a layout it is plain attention (the model is used on padded rows).
    """
    if layout is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **others)
    if layout.block_mask is not None:
        attend = _compiled_flex()
        out = attend(query, key, value, block_mask=layout.block_mask, scale=scaling, enable_gqa=True)
        return out.transpose(1, 2), None
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    parts = []
    for tree, mask, branch_masks in zip(layout.trees, layout.masks, layout.branch_masks, strict=True):
        end = tree.start + tree.tokens
        q, k, v = (x[:, :, tree.start : end] for x in (query, key, value))
        if mask is not None:
            parts.append(scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scaling))
        else:
            parts += _large_tree(tree, q, k, v, branch_masks, scaling)
    return torch.cat(parts, dim=2).transpose(1, 2), None


def _large_tree(
    tree: Tree,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    branch_masks: Sequence[torch.Tensor],
    scaling: float | None,
) -> list[torch.Tensor]:
    prompt_q, prompt_k, prompt_v = (x[:, :, : tree.prompt] for x in (q, k, v))
    parts = [scaled_dot_product_attention(prompt_q, prompt_k, prompt_v, is_causal=True, scale=scaling)]
    start = tree.prompt
    for length, mask in zip(tree.branches, branch_masks, strict=True):
        if length:
            own_q, own_k, own_v = (x[:, :, start : start + length] for x in (q, k, v))
            keys, values = torch.cat([prompt_k, own_k], 2), torch.cat([prompt_v, own_v], 2)
            parts.append(scaled_dot_product_attention(own_q, keys, values, attn_mask=mask, scale=scaling))
        start += length
    return parts


@functools.cache
def _compiled_flex() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention)


def register() -> None:
    """Make the attention known to transformers under `NAME`; padded rows get SDPA's masks."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

    AttentionInterface.register(NAME, tree_attention)
    ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
