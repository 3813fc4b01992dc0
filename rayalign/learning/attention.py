"""Attention over packed sequences: every response sees its prompt and itself, nobody sees another prompt.

On CPU PyTorch's fused attention runs tree by tree: one call with a mask for a small tree. For a large one a causal call
for the prompt, one for all responses on the prompt and a causal one for each response on itself, without any mask, so
that no work is done on pairs that may not see each other. On CUDA FlexAttention skips masked blocks over the whole
sequence.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from rayalign.learning.packing import Tree
from rayalign.learning.windows import note_window, path_positions, windowed_tree

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

NAME = "rayalign_tree"
BLOCK = 128
"""FlexAttention's: tokens that are skipped, or looked at, together."""
SMALL_TREE = 512
"""Tokens up to which a tree is computed in one masked call."""
Visible = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""(batch row, head, query's position, key's position) -> whether the query may look at the key."""


@dataclass(frozen=True, eq=False)
class Layout:
    """Who sees whom in one packed sequence; made once per batch and used by every layer."""

    trees: tuple[Tree, ...]
    masks: tuple[torch.Tensor | None, ...]
    """For each small tree [T, T], True where a token may look; None for large ones."""
    block_mask: BlockMask | None = None
    """FlexAttention's mask on CUDA."""
    window: int | None = None
    """Tokens that each one looks back at, itself included; None where all."""
    windowed: Mapping[int, Layout] = field(default_factory=dict)
    """By window, the layout of layers that have one which cuts some path."""


def make_layout(trees: Sequence[Tree], device: torch.device, windows: Iterable[int] = ()) -> Layout:
    """The layout for a model with layers of these windows."""
    longest = max(tree.prompt + max(tree.branches, default=0) for tree in trees)
    windowed = {window: _layout(trees, device, window, {}) for window in windows if window < longest}
    return _layout(trees, device, None, windowed)


def _layout(trees: Sequence[Tree], device: torch.device, window: int | None, windowed: Mapping[int, Layout]) -> Layout:
    if device.type == "cuda":
        return Layout(tuple(trees), (), block_mask(trees, device, window), window, windowed)
    masks = tuple(tree_mask(tree, window).to(device) if tree.tokens <= SMALL_TREE else None for tree in trees)
    return Layout(tuple(trees), masks, None, window, windowed)


def tree_mask(tree: Tree, window: int | None = None) -> torch.Tensor:
    """[T, T] bool: the causal mask, less what other responses say and what lies before the window."""
    branch_T = branch_ids(tree)
    causal_TT = torch.ones(tree.tokens, tree.tokens, dtype=torch.bool).tril()
    mask_TT = causal_TT & ((branch_T[None] == -1) | (branch_T[None] == branch_T[:, None]))
    if window is None:
        return mask_TT
    position_T = path_positions(tree)
    return mask_TT & (position_T[:, None] - position_T[None] < window)


def branch_ids(tree: Tree) -> torch.Tensor:
    """[T]: which response each token of a tree belongs to; -1 for the prompt."""
    lengths = torch.tensor([tree.prompt, *tree.branches])
    return torch.repeat_interleave(torch.arange(-1, len(tree.branches)), lengths)


def block_mask(trees: Sequence[Tree], device: torch.device, window: int | None = None) -> BlockMask:
    """FlexAttention's mask of these trees, by counting what the tokens of each block see of each other block, which
    needs [T, T / BLOCK] numbers and never a mask of all pairs."""
    from torch.nn.attention.flex_attention import BlockMask

    tokens = sum(tree.tokens for tree in trees)
    blocks = -(-tokens // BLOCK)
    starts_N = torch.arange(blocks, device=device) * BLOCK
    seen_TN = torch.zeros(blocks * BLOCK, blocks, dtype=torch.int32, device=device)
    for first_T, end_T in _seen_spans(trees, device, window):
        overlap_TN = torch.minimum(end_T[:, None], starts_N + BLOCK) - torch.maximum(first_T[:, None], starts_N)
        seen_TN[:tokens] += overlap_TN.clamp_(min=0)
    seen_NN = seen_TN.view(blocks, BLOCK, blocks).sum(1)
    whole_NN = seen_NN == BLOCK**2
    partial = _ordered((seen_NN > 0) & ~whole_NN)
    lengths = (tokens, tokens)
    return BlockMask.from_kv_blocks(*partial, *_ordered(whole_NN), BLOCK, visible(trees, device, window), lengths)


def _seen_spans(
    trees: Sequence[Tree], device: torch.device, window: int | None
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Twice the first [T] and the end [T] of keys that each token sees: of its prompt's, then of its own response's.
    A span whose end is not behind its first is empty."""
    sizes = torch.tensor([tree.tokens for tree in trees], device=device)
    start_T = torch.tensor([tree.start for tree in trees], device=device).repeat_interleave(sizes)
    prompt_T = torch.tensor([tree.prompt for tree in trees], device=device).repeat_interleave(sizes)
    end_T = torch.arange(len(start_T), device=device) + 1
    nearest_T = start_T if window is None else start_T + (_positions(trees, device) - window + 1).clamp_(min=0)
    yield nearest_T, torch.minimum(end_T, start_T + prompt_T)
    spans = [length for tree in trees for length in (tree.prompt, *tree.branches)]
    spans_S = torch.tensor(spans, device=device)
    first_T = (spans_S.cumsum(0) - spans_S).repeat_interleave(spans_S)
    # A prompt's own span is empty here, as its tokens were counted above.
    own_T = torch.maximum(first_T, start_T + prompt_T)
    yield own_T if window is None else torch.maximum(own_T, end_T - window), end_T


def _positions(trees: Sequence[Tree], device: torch.device) -> torch.Tensor:
    return torch.cat([path_positions(tree) for tree in trees]).to(device)


def _ordered(blocks_NN: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """[1, 1, N] how many blocks each row names, and [1, 1, N, N] which, those first."""
    order_NN = blocks_NN.int().argsort(dim=-1, descending=True, stable=True)
    return blocks_NN.sum(-1, dtype=torch.int32)[None, None], order_NN.int()[None, None]


def visible(trees: Sequence[Tree], device: torch.device, window: int | None = None) -> Visible:
    """FlexAttention's mask function for these trees: may the token at `q` look at the one at `k`?"""
    tree_T = torch.repeat_interleave(torch.arange(len(trees)), torch.tensor([tree.tokens for tree in trees])).to(device)
    branch_T = torch.cat([branch_ids(tree) for tree in trees]).to(device)

    def see(b: torch.Tensor, h: torch.Tensor, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        same_branch = (branch_T[k] == -1) | (branch_T[k] == branch_T[q])
        return (tree_T[q] == tree_T[k]) & (k <= q) & same_branch

    if window is None:
        return see
    position_T = _positions(trees, device)
    return lambda b, h, q, k: see(b, h, q, k) & (position_T[q] - position_T[k] < window)


def tree_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    layout: Layout | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Hugging Face's attention interface: query [1, H, T, D], key and value [1, H / groups, T, D] -> [1, T, H, D].

    Without a layout it is plain attention (the model is used on padded rows).
    """
    if layout is None:
        # Here the mask has the window.
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **others)
    note_window(sliding_window)
    if sliding_window is not None:
        layout = layout.windowed.get(sliding_window, layout)
    if layout.block_mask is not None:
        attend = _compiled_flex()
        out = attend(query, key, value, block_mask=layout.block_mask, scale=scaling, enable_gqa=True)
        return out.transpose(1, 2), None
    dtype = query.dtype
    if dtype == torch.bfloat16:
        # PyTorch's CPU kernels take up to two and a half times as long in it, and round the probabilities.
        query, key, value = query.float(), key.float(), value.float()
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    parts = []
    for tree, mask in zip(layout.trees, layout.masks, strict=True):
        end = tree.start + tree.tokens
        q, k, v = (x[:, :, tree.start : end] for x in (query, key, value))
        if mask is None and layout.window is None and not _kernel_takes(q, v):
            mask = tree_mask(tree).to(q.device)
        if mask is None and layout.window is not None:
            parts += windowed_tree(tree, q, k, v, layout.window, scaling)
        elif mask is not None:
            parts.append(scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scaling))
        else:
            parts += _large_tree(tree, q, k, v, scaling)
    return torch.cat(parts, dim=2).to(dtype).transpose(1, 2), None


def _kernel_takes(q: torch.Tensor, v: torch.Tensor) -> bool:
    """Whether PyTorch's CPU kernel, called by its own name below, knows such tensors."""
    return q.device.type == "cpu" and q.shape[-1] == v.shape[-1] and q.stride(-1) == v.stride(-1) == 1


def _large_tree(
    tree: Tree, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scaling: float | None
) -> list[torch.Tensor]:
    prompt_q, prompt_k, prompt_v = (x[:, :, : tree.prompt] for x in (q, k, v))
    parts = [scaled_dot_product_attention(prompt_q, prompt_k, prompt_v, is_causal=True, scale=scaling)]
    if any(tree.branches):
        parts.append(_Branches.apply(q[:, :, tree.prompt :], k, v, tree, scaling))
    return parts


class _Context(Protocol):
    """What autograd hands from the forward to the backward pass."""

    tree: Tree
    scale: float | None
    saved_tensors: tuple[torch.Tensor, ...]

    def save_for_backward(self, *tensors: torch.Tensor) -> None: ...


class _Branches(torch.autograd.Function):
    """Attention of the responses' tokens to their prompt and, causally, to themselves.

    Both parts give their output and the log of their softmax's normaliser; from these follow the normaliser over both
    and the output. PyTorch's backward kernel takes probabilities as exp(score - normaliser), so with the joint
    normaliser and output it gives each part's exact gradient.
    """

    @staticmethod
    def forward(
        ctx: _Context, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, tree: Tree, scale: float | None
    ) -> torch.Tensor:
        """q [1, H, R, D] of all responses, k and v [1, H, P + R, D] -> [1, H, R, D]."""
        out_p, lse_p = _attend(q, k[:, :, : tree.prompt], v[:, :, : tree.prompt], 0.0, False, scale=scale)
        own = [_attend(*part, 0.0, True, scale=scale) for part in _own(tree, q, k, v)]
        out_o, lse_o = (torch.cat(parts, 2) for parts in zip(*own, strict=True))
        lse = torch.logaddexp(lse_p, lse_o)
        out = out_p * (lse_p - lse).exp().unsqueeze(-1).to(q.dtype)
        out += out_o * (lse_o - lse).exp().unsqueeze(-1).to(q.dtype)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.tree, ctx.scale = tree, scale
        return out

    @staticmethod
    def backward(ctx: _Context, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (grad,) = gradients
        q, k, v, out, lse = ctx.saved_tensors
        tree, scale = ctx.tree, ctx.scale
        prompt = slice(0, tree.prompt)
        parts = (grad, q, k[:, :, prompt], v[:, :, prompt], out, lse)
        dq, dk_p, dv_p = _attend_backward(*parts, 0.0, False, scale=scale)
        grads = [x.split([n for n in tree.branches if n], 2) for x in (grad, out, lse)]
        own = [
            _attend_backward(grad_i, *part, out_i, lse_i, 0.0, True, scale=scale)
            for part, grad_i, out_i, lse_i in zip(_own(tree, q, k, v), *grads, strict=True)
        ]
        dq_o, dk_o, dv_o = (torch.cat(parts, 2) for parts in zip(*own, strict=True))
        return dq + dq_o, torch.cat([dk_p, dk_o], 2), torch.cat([dv_p, dv_o], 2), None, None


def _own(
    tree: Tree, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor
) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """(q, k, v) of each response that has tokens here."""
    lengths = [length for length in tree.branches if length]
    parts = [q.split(lengths, 2), *(x[:, :, tree.prompt :].split(lengths, 2) for x in (k, v))]
    return list(zip(*parts, strict=True))


_attend = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_attend_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


@functools.cache
def _compiled_flex() -> Callable[..., torch.Tensor]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention)


def register() -> None:
    """Make the attention known to transformers under `NAME`; padded rows get SDPA's masks."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

    AttentionInterface.register(NAME, tree_attention)
    ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
