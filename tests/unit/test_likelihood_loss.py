"""The likelihood loss by hand, against fixtures, and on ragged and empty rows.

A number in a test's name is that of the edge case it covers in the list of METHODS section 4.
"""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, strategies as st

from rayalign.losses import nll_loss
from rayalign.losses.logprobs import token_logps
from tests.unit.loss_cases import (
    LOGPS,
    TOLERANCES,
    assert_equals,
    assert_grad_equals,
    fixture_cases,
    leaf,
    needs_fixtures,
    padded,
)

ROWS = st.lists(st.lists(LOGPS, max_size=6), min_size=1, max_size=5)


@needs_fixtures
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("case", fixture_cases("cut_cases"), ids=lambda case: case["id"])
def test_fixture_l2(case: dict, dtype: torch.dtype) -> None:
    """L2 of CUT: the plain stream of a positive row, the judged one (Hindsight) of a negative row."""
    rows = [example["logp_xj" if example["is_negative"] else "logp_x"] for example in case["examples"]]
    logps, mask = padded(rows, max(map(len, rows)), 0.0)
    out = nll_loss(logps.to(dtype), mask)
    assert_equals(out.per_group, [row["L2"] for row in case["expected"]["paper_gamma0"]])


def test_values_by_hand() -> None:
    """Rows (1, 2) and (6): means 1.5 and 6, sums 3 and 6; 9 nats in 3 tokens of 2 rows."""
    logps = leaf([[-1.0, -2.0], [-6.0, math.nan]])
    mask = torch.tensor([[True, True], [True, False]])
    mean, total = nll_loss(logps, mask), nll_loss(logps, mask, normalise="sum")
    assert_equals(mean.per_group, [1.5, 6.0])
    assert_equals(total.per_group, [3.0, 6.0])
    assert_grad_equals(mean.loss, logps, [[-0.25, -0.25], [-0.5, 0.0]])
    assert_grad_equals(total.loss, logps, [[-0.5, -0.5], [-0.5, 0.0]])
    for out in (mean, total):
        assert {name: float(value) for name, value in out.metrics.items()} == {"nll/sequence": 4.5, "nll/tokens": 1.5}
        assert not any(value.requires_grad for value in out.metrics.values())


@pytest.mark.parametrize("normalise", ["sequence", "sum"])
@given(ROWS, st.integers(0, 3), st.booleans(), st.sampled_from([0.0, -math.inf, math.nan]))
def test_edge_12_rows_are_independent_of_batch_and_padding(
    normalise, rows: list, extra: int, left: bool, fill: float
) -> None:
    """Each row alone and unpadded gives the same; the padding gets a gradient of exactly 0."""
    logps, mask = padded(rows, max(map(len, rows)) + extra, fill, left=left)
    logps.requires_grad_()
    out = nll_loss(logps, mask, normalise=normalise)
    for b, row in enumerate(rows):
        alone = nll_loss(
            torch.tensor([row], dtype=torch.float64), torch.ones(1, len(row), dtype=torch.bool), normalise=normalise
        )
        torch.testing.assert_close(out.per_group[b], alone.per_group[0])
    (grad,) = torch.autograd.grad(out.loss, logps)
    assert torch.equal(grad[~mask], torch.zeros_like(grad[~mask]))
    assert (grad[mask] < 0).all()


@pytest.mark.parametrize("normalise", ["sequence", "sum"])
@pytest.mark.parametrize("width", [0, 3])
def test_edge_10_21_empty_rows_cost_nothing(normalise, width: int) -> None:
    """Loss 0 and gradient 0, not 0/0, whatever stands in the slots."""
    logps = torch.full((2, width), math.nan, requires_grad=True)
    out = nll_loss(logps, torch.zeros(2, width, dtype=torch.bool), normalise=normalise)
    assert out.per_group.tolist() == [0.0, 0.0]
    assert torch.equal(torch.autograd.grad(out.loss, logps)[0], torch.zeros(2, width))


def test_edge_09_bfloat16_logits_are_summed_in_float32() -> None:
    """300 tokens, bfloat16 logits: the float32 sum agrees with float64 to 1e-2; a bfloat16 sum could not."""
    generator = torch.Generator().manual_seed(0)
    logits = (3 * torch.randn(300, 50, generator=generator)).bfloat16()
    targets = torch.randint(50, (300,), generator=generator)
    exact = torch.log_softmax(logits.double(), -1).gather(-1, targets[:, None]).sum()
    logps = token_logps(logits, targets, torch.nn.Identity())
    total = nll_loss(logps[None], torch.ones(1, 300, dtype=torch.bool), normalise="sum").loss
    assert abs(float(total + exact)) < 1e-2
    assert abs(float(logps.bfloat16().sum() - exact)) > 1e-2


def test_forward_prediction_is_the_sum_of_two_calls() -> None:
    """NLL(y|x) + NLL(j|x,y) per row, each normalised by its own length: (1 + 3)/2 + (5 + 5 + 2)/3 = 6."""
    y, j = leaf([[-1.0, -3.0]]), leaf([[-5.0, -5.0, -2.0]])
    both = nll_loss(y, torch.ones_like(y).bool()).per_group + nll_loss(j, torch.ones_like(j).bool()).per_group
    assert_equals(both, [6.0])


def test_bad_arguments_are_refused() -> None:
    logps, mask = torch.zeros(2, 3), torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match="normalise is 'token'"):
        nll_loss(logps, mask, normalise="token")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mask_BT has shape"):
        nll_loss(logps, mask[:1])
    with pytest.raises(ValueError, match=r"logps_BT is torch\.float16"):
        nll_loss(logps.half(), mask)
