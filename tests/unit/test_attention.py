"""Packed sequences with shared prompts give the log-probabilities and gradients of padded rows, on three families."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st
from peft import LoraConfig, get_peft_model
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PretrainedConfig,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from rayalign.learning import attention, windows
from rayalign.learning.attention import block_mask, make_layout, register, tree_attention, tree_mask, visible
from rayalign.learning.model import Policy
from rayalign.learning.packing import Row, Tree, collate_packed, collate_padded, packed_tokens
from rayalign.learning.weights import AdapterWeights
from rayalign.learning.windows import layer_windows
from rayalign.losses.logprobs import token_logps

torch.set_num_threads(1)
VOCABULARY, WINDOW, NARROW = 61, 24, 5
FAMILIES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "llama": (LlamaConfig, LlamaForCausalLM, {}),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {}),
    "mistral": (MistralConfig, MistralForCausalLM, {"sliding_window": WINDOW}),
    "mistral narrow": (MistralConfig, MistralForCausalLM, {"sliding_window": NARROW}),
    "qwen2 mixed": (
        Qwen2Config, Qwen2ForCausalLM,
        {"sliding_window": NARROW, "use_sliding_window": True, "layer_types": ["full_attention", "sliding_attention"]},
    ),
}  # fmt: skip


def make_policy(family: str, *, checkpointing: bool = False, **changes: Any) -> Policy:
    register()
    torch.manual_seed(0)
    config, model, options = FAMILIES[family]
    base = model(
        config(
            **{
                "vocab_size": VOCABULARY,
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "initializer_range": 0.3,
                "use_cache": False,
                **options,
                **changes,
            }
        )
    )
    if checkpointing:
        base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    lora = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    return Policy(AdapterWeights(get_peft_model(base, lora))).train()


@pytest.fixture(scope="module", params=[*FAMILIES, "llama, checkpointing"])
def policy(request: pytest.FixtureRequest) -> Policy:
    family, _, checkpointing = request.param.partition(", ")
    return make_policy(family, checkpointing=bool(checkpointing))


tokens = st.integers(0, VOCABULARY - 1)
responses = st.lists(st.lists(tokens, max_size=9), min_size=1, max_size=4)
groups = st.lists(st.tuples(st.lists(tokens, min_size=1, max_size=14), responses), min_size=1, max_size=4)


def rows_of(drawn: list[tuple[list[int], list[list[int]]]]) -> list[Row]:
    return [(prompt, response) for prompt, responses in drawn for response in responses]


def logps_and_gradients(policy: Policy, batch: Any) -> tuple[torch.Tensor, list[torch.Tensor]]:
    policy.zero_grad()
    logps_N = policy(batch)
    (logps_N * torch.linspace(0.5, 1.5, len(logps_N))).sum().backward()
    return logps_N.detach(), [p.grad.clone() for p in policy.trainable() if p.grad is not None]


@pytest.mark.parametrize("small_tree", [0, 512])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=groups)
def test_packed_equals_padded(policy: Policy, monkeypatch: pytest.MonkeyPatch, small_tree: int, drawn: Any) -> None:
    """Both ways of computing a tree: one masked call, and one call per response."""
    monkeypatch.setattr(attention, "SMALL_TREE", small_tree)
    monkeypatch.setattr(windows, "CHUNK", 3)
    rows = rows_of(drawn)
    assert policy.shares_prompts and policy.collate([([1] * 99, [2])]).packed
    padded, wanted = logps_and_gradients(policy, collate_padded(rows))
    packed, found = logps_and_gradients(policy, collate_packed(rows))
    torch.testing.assert_close(packed, padded, rtol=1e-5, atol=2e-5)
    # Relative to the largest: where a prompt of one token is all there is to see, some gradients are rounding alone.
    largest = max(float(theirs.abs().max()) for theirs in wanted)
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * largest + 1e-6)


def test_a_layer_that_does_not_tell_its_window_is_padded_beyond_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packed, it would see everything."""

    def hides(*args: Any, sliding_window: int | None = None, **others: Any) -> Any:
        return tree_attention(*args, **others)

    fits, too_long = [([1] * 20, [2] * 4), ([1] * 20, [3] * 4)], [([1] * 20, [2] * 4), ([1] * 20, [3] * 5)]
    monkeypatch.setattr(attention, "tree_attention", hides)
    try:
        policy = make_policy("mistral")
    finally:
        monkeypatch.undo()
        register()
    assert policy.shares_prompts
    assert policy.collate(fits).packed
    assert not policy.collate(too_long).packed
    assert make_policy("mistral", sliding_window=None).collate(too_long).packed


def test_which_layers_have_a_window() -> None:
    mixed = {"num_hidden_layers": 3, "layer_types": ["sliding_attention", "full_attention", "chunked_attention"]}
    assert layer_windows(MistralConfig(num_hidden_layers=2, sliding_window=7)) == [7, 7]
    assert layer_windows(MistralConfig(num_hidden_layers=2, sliding_window=None)) == [None, None]
    assert layer_windows(Qwen2Config(num_hidden_layers=2, sliding_window=7)) == [None, None]
    assert layer_windows(PretrainedConfig(**mixed, sliding_window=7)) == [7, None, 7]
    assert layer_windows(PretrainedConfig(**mixed, attention_chunk_size=9)) == [9, None, 9]
    assert layer_windows(PretrainedConfig(**mixed, sliding_window=7, use_sliding_window=False)) == [None] * 3
    assert layer_windows(LlamaConfig(num_hidden_layers=1)) == [None]


def test_a_model_that_takes_no_layout_falls_back(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """The check is on the model itself: attention that ignores the layout disagrees with padded rows."""
    monkeypatch.setattr(attention, "make_layout", lambda *_: None)
    monkeypatch.setattr("rayalign.learning.model.make_layout", lambda *_: None)
    policy = make_policy("llama")
    assert not policy.shares_prompts
    assert not policy.collate([([1], [2]), ([1], [3])]).packed
    assert "do not share their prompt" in caplog.text


TREES = (Tree(0, 3, (2, 1, 0)), Tree(6, 1, (4,)), Tree(11, 2, ()))


def may_look(tree: Tree, q: int, k: int, window: int = 99) -> bool:
    """By hand: at the prompt up to oneself, or at one's own response up to oneself, and not further than the window."""
    ends = [tree.prompt, *(tree.prompt + total for total in itertools.accumulate(tree.branches))]
    part = [next(i for i, end in enumerate(ends) if position < end) for position in (q, k)]
    depth = [p if not i else tree.prompt + p - ends[i - 1] for p, i in zip((q, k), part, strict=True)]
    return k <= q and (part[1] == 0 or part[0] == part[1]) and depth[0] - depth[1] < window


@pytest.mark.parametrize("tree", TREES)
def test_tree_mask_by_hand(tree: Tree) -> None:
    expected = [[may_look(tree, q, k) for k in range(tree.tokens)] for q in range(tree.tokens)]
    assert tree_mask(tree).tolist() == expected
    expected = [[may_look(tree, q, k, 3) for k in range(tree.tokens)] for q in range(tree.tokens)]
    assert tree_mask(tree, 3).tolist() == expected


@pytest.mark.parametrize("window", [None, 3])
def test_the_mask_of_flex_attention_is_the_same(window: int | None) -> None:
    total = sum(tree.tokens for tree in TREES)
    see = visible(TREES, torch.device("cpu"), window)
    expected = torch.block_diag(*[tree_mask(tree, window).int() for tree in TREES]).bool()
    found = [[bool(see(0, 0, torch.tensor(q), torch.tensor(k))) for k in range(total)] for q in range(total)]
    assert found == expected.tolist()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("window", [None, 3])
def test_flex_attention_gives_what_the_trees_give(window: int | None) -> None:
    """Its reference implementation, on CPU; compiled kernels are for CUDA."""
    torch.manual_seed(0)
    total = sum(tree.tokens for tree in TREES)
    query, key, value = torch.randn(1, 4, total, 8), torch.randn(1, 2, total, 8), torch.randn(1, 2, total, 8)
    layout = make_layout(TREES, torch.device("cpu"), [3])
    options: Any = {"scaling": 0.3, "layout": layout, "sliding_window": window}
    ours, _ = tree_attention(torch.nn.Module(), query, key, value, None, **options)
    mask = block_mask(TREES, torch.device("cpu"), window)
    theirs: Any = flex_attention(query, key, value, block_mask=mask, scale=0.3, enable_gqa=True)
    torch.testing.assert_close(ours, theirs.transpose(1, 2), rtol=1e-5, atol=1e-5)


def trees_of(*lengths: tuple[int, ...]) -> tuple[Tree, ...]:
    """Trees of a prompt and responses of these lengths, one after another."""
    starts = [sum(map(sum, lengths[:i])) for i in range(len(lengths))]
    return tuple(
        Tree(start, prompt, tuple(branches)) for start, (prompt, *branches) in zip(starts, lengths, strict=True)
    )


@pytest.mark.parametrize(
    "trees",
    [
        TREES,
        trees_of((300, 20, 0, 200, 130), (5, 1, 1), (0, 140)),
        trees_of((128, 128, 128), (256,)),
        trees_of((1024, 40, 300)),
        trees_of((100, 30), (700, 600, 513), (90, 37)),
    ],
    ids=["small", "ragged", "whole blocks", "a long prompt", "three"],
)
@pytest.mark.parametrize("window", [None, 100, 300])
def test_the_blocks_are_those_of_a_mask_of_all_pairs(trees: tuple[Tree, ...], window: int | None) -> None:
    total, device = sum(tree.tokens for tree in trees), torch.device("cpu")
    ours = block_mask(trees, device, window)
    theirs = create_block_mask(visible(trees, device, window), None, None, total, total, "cpu")
    assert ours.seq_lengths == theirs.seq_lengths and ours.BLOCK_SIZE == theirs.BLOCK_SIZE
    for name in ("kv_num_blocks", "kv_indices", "full_kv_num_blocks", "full_kv_indices", "q_num_blocks", "q_indices"):
        mine, expected = getattr(ours, name), getattr(theirs, name)
        assert mine.dtype == expected.dtype and torch.equal(mine, expected), name


def test_packed_tokens_leave_out_copies_and_last_tokens() -> None:
    """Prompts 3 and 2; responses 4, 1 and 0 -> 3, 0, 0 and 5 -> 4: 3 + 3 + 2 + 4 = 12; padded 4 x 7 = 28."""
    rows = [([1, 2, 3], [1] * 4), ([1, 2, 3], [1]), ([1, 2, 3], []), ([1, 2], [1] * 5)]
    batch = collate_packed(rows)
    assert packed_tokens(rows) == batch.tokens == 12
    assert collate_padded(rows).tokens == 28
    assert batch.position_ids_1T is not None
    assert batch.position_ids_1T.tolist() == [[0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5]]
    assert batch.predicting_N.tolist() == [2, 3, 4, 5, 2, 7, 8, 9, 10, 11]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_a_frozen_head_keeps_its_slopes(bias: bool, chunk: int) -> None:
    """Log-probabilities and the gradient of the hidden states equal autograd's through log_softmax."""
    torch.manual_seed(0)
    head = torch.nn.Linear(6, 11, bias=bias, dtype=torch.float64).requires_grad_(False)
    hidden, targets = torch.randn(7, 6, dtype=torch.float64, requires_grad=True), torch.arange(7)
    expected = head(hidden).log_softmax(-1).gather(-1, targets[:, None])[:, 0]
    weights = torch.linspace(-1, 1, 7, dtype=torch.float64)
    (wanted,) = torch.autograd.grad((expected * weights).sum(), hidden)
    logps = token_logps(hidden, targets, head, chunk_tokens=chunk)
    (found,) = torch.autograd.grad((logps * weights).sum(), hidden)
    assert logps.dtype == torch.float32
    torch.testing.assert_close(logps.double(), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bias", [False, True])
def test_a_frozen_head_in_bfloat16_gives_float32_logits(bias: bool) -> None:
    """As exact as the stored numbers allow: what bfloat16 logits lose is more than an update moves."""
    generator = torch.Generator().manual_seed(0)
    head = torch.nn.Linear(64, 500, bias=bias).bfloat16().requires_grad_(False)
    head.weight.copy_(0.3 * torch.randn(500, 64, generator=generator))
    hidden, targets = (3 * torch.randn(40, 64, generator=generator)).bfloat16(), torch.arange(40)
    shift = 0 if head.bias is None else head.bias.double()
    exact = (hidden.double() @ head.weight.double().T + shift).log_softmax(-1).gather(-1, targets[:, None])[:, 0]
    rounded = head(hidden).float().log_softmax(-1).gather(-1, targets[:, None])[:, 0]
    logps = token_logps(hidden.requires_grad_(), targets, head, chunk_tokens=7)
    assert float((logps.detach() - exact).abs().max()) < 1e-4 < 1e-2 < float((rounded - exact).abs().max())
    (slopes,) = torch.autograd.grad(logps.sum(), hidden)
    assert slopes.dtype == torch.bfloat16 and bool(slopes.isfinite().all())


@pytest.mark.parametrize("small_tree", [0, 512])
def test_bfloat16_on_cpu_loses_nothing_but_its_own_digits(monkeypatch: pytest.MonkeyPatch, small_tree: int) -> None:
    """As the same numbers in float64, rounded once."""
    monkeypatch.setattr(attention, "SMALL_TREE", small_tree)
    generator = torch.Generator().manual_seed(0)
    tree = Tree(0, 60, (20, 0, 9))
    rows = [torch.randn(1, 2, tree.tokens, 8, generator=generator).bfloat16() for _ in range(3)]
    layout = make_layout([tree], torch.device("cpu"))
    found, exact = (
        attention.tree_attention(torch.nn.Module(), *(row.to(dtype) for row in rows), None, layout=layout)[0]
        for dtype in (torch.bfloat16, torch.float64)
    )
    assert found.dtype == torch.bfloat16
    assert float((found == exact.bfloat16()).float().mean()) > 0.99


def test_a_head_that_learns_gets_its_gradient() -> None:
    head = torch.nn.Linear(6, 11)
    token_logps(torch.randn(7, 6), torch.arange(7), head, chunk_tokens=3).sum().backward()
    assert head.weight.grad is not None and bool(head.weight.grad.any())


@pytest.mark.parametrize("window", [None, 1, 60])
@pytest.mark.parametrize("value_width", [8, 6])
@pytest.mark.parametrize("tree", [*TREES, Tree(0, 150, (40, 0, 70, 1))])
def test_a_large_tree_is_the_masked_one(
    monkeypatch: pytest.MonkeyPatch, tree: Tree, value_width: int, window: int | None
) -> None:
    """Output and gradients; values of another width than keys are not for PyTorch's CPU kernel."""
    monkeypatch.setattr(attention, "SMALL_TREE", 0)
    monkeypatch.setattr(windows, "CHUNK", 50)
    tree = Tree(0, tree.prompt, tree.branches)
    generator = torch.Generator().manual_seed(0)
    inputs = [
        torch.randn(1, 2, tree.tokens, width, generator=generator).requires_grad_() for width in (8, 8, value_width)
    ]
    layout = make_layout([tree], torch.device("cpu"), [1, 60])
    ours, _ = tree_attention(torch.nn.Module(), *inputs, None, layout=layout, sliding_window=window)
    mask = tree_mask(tree, window)
    theirs = torch.nn.functional.scaled_dot_product_attention(*inputs, attn_mask=mask).transpose(1, 2)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    weights = torch.randn(ours.shape, generator=generator)
    found, wanted = (torch.autograd.grad((out * weights).sum(), inputs) for out in (ours, theirs))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
