"""Whether responses share their prompt where weights are rounded: right layouts are told from wrong ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from rayalign.learning.attention import NAME
from rayalign.learning.packing import Batch, Tree, collate_padded
from rayalign.learning.sharing import Forward, rows_to_try, same, same_but_rounded
from tests.unit.test_attention import VOCABULARY, make_policy

Change = Callable[[Batch], Batch]


def positions(batch: Batch) -> Batch:
    return replace(batch, position_ids_1T=torch.arange(batch.input_ids_BT.shape[1])[None])


def one_tree(batch: Batch) -> Batch:
    return replace(batch, trees=(Tree(0, batch.input_ids_BT.shape[1], ()),))


def one_prompt_of_two(batch: Batch) -> Batch:
    """The last tree sees the one before it."""
    first, *others = batch.trees
    if not others:
        return batch
    [second] = others
    return replace(batch, trees=(Tree(0, first.tokens + second.prompt, second.branches),))


@pytest.fixture(scope="module")
def forwards() -> tuple[Forward, Forward]:
    """A model's packed and padded log-probabilities, with a noise on them that is the same for the same numbers."""
    policy = make_policy("llama")
    assert policy.shares_prompts
    base = policy.model.get_base_model()

    @torch.no_grad()
    def forward(batch: Batch) -> torch.Tensor:
        base.set_attn_implementation(NAME if batch.packed else "sdpa")
        return policy(batch)

    return forward, lambda batch: forward(batch) + 0.1 * torch.sin(1e4 * forward(batch))


@pytest.mark.parametrize("wrong", [positions, one_tree, one_prompt_of_two])
def test_a_wrong_layout_is_not_taken_for_rounding(forwards: tuple[Forward, Forward], wrong: Change) -> None:
    exact, rounded = forwards
    rows = rows_to_try(VOCABULARY, rounded=True)
    padded = exact(collate_padded(rows))
    cpu = torch.device("cpu")
    assert not same(rounded(collate_padded(rows)), padded)
    assert same_but_rounded(rounded, rows, padded, VOCABULARY, cpu)
    assert not same_but_rounded(lambda batch: rounded(wrong(batch)), rows, padded, VOCABULARY, cpu)
