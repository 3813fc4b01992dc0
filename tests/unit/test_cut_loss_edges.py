"""CUT on the edge cases of METHODS section 4; the number in a test's name is the case's."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, strategies as st

from rayalign.losses import cut_loss, flagged_tokens, nll_loss
from tests.unit.cut_cases import LN2, ROWS, SETTINGS, TOKENS, batch_of, negative_row
from tests.unit.loss_cases import (
    TOLERANCES,
    assert_equals,
    assert_grad_equals,
    leaf,
)


@given(ROWS, st.integers(0, 3), st.booleans(), st.sampled_from([0.0, 1e4, math.nan]))
def test_edge_16_21_rows_are_independent_of_batch_and_padding(rows: list, extra: int, left: bool, fill: float) -> None:
    """Each row's loss and gradient are those of the row alone, unpadded; what stands in the padding reaches nothing."""
    plain, judged, mask, _ = batch = batch_of(rows, extra=extra, left=left, fill=fill)
    out = cut_loss(*batch, **SETTINGS)
    grads = torch.autograd.grad(out.loss, (plain, judged))
    for grad in grads:
        assert torch.equal(grad[~mask], torch.zeros_like(grad[~mask]))
    flags = flagged_tokens(*batch, threshold=1.1)
    assert not flags[~mask].any()
    for b, row in enumerate(rows):
        single = batch_of([row])
        alone = cut_loss(*single, **SETTINGS)
        torch.testing.assert_close(out.per_group[b], alone.per_group[0])
        assert flags[b][mask[b]].tolist() == flagged_tokens(*single, threshold=1.1)[0].tolist()
        for grad, leaf_of_row in zip(grads, single[:2], strict=True):
            assert_grad_equals(alone.loss / len(rows), leaf_of_row, grad[b][mask[b]][None])
    torch.testing.assert_close(out.loss, out.per_group.mean())


def test_edge_16_without_negatives_it_is_the_nll_whatever_the_judged_stream_holds() -> None:
    """No half; the judged stream is NaN, as from an all-masked row, and gets a gradient of exactly 0."""
    plain = leaf([[-1.0, -2.0, 0.0], [-3.0, 0.0, 0.0]])
    judged = torch.full((2, 3), math.nan, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[True, True, False], [True, False, False]])
    out = cut_loss(plain, judged, mask, torch.tensor([False, False]), **SETTINGS)
    assert_equals(out.per_group, [1.5, 3.0])
    assert_equals(out.per_group, nll_loss(plain, mask).per_group.tolist())
    plain_grad, judged_grad = torch.autograd.grad(out.loss, (plain, judged))
    assert torch.equal(judged_grad, torch.zeros_like(judged))
    assert_equals(plain_grad, [[-0.25, -0.25, 0.0], [-0.5, 0.0, 0.0]])
    assert math.isnan(float(out.metrics["cut/flagged_share"]))


def test_edge_17_none_flagged_is_two_likelihoods() -> None:
    """Judged below plain everywhere: nll(plain) + nll(judged), and the weight does not matter."""
    batch = negative_row([-1.0, -2.0], [-1.5, -4.0])
    for weight in (0.0, 5.0):
        assert_equals(cut_loss(*batch, threshold=1.1, weight=weight).loss, 1.5 + 2.75)


def test_edge_17_all_flagged_leaves_only_unlikelihood_in_the_plain_stream() -> None:
    """Plain 1/4 twice, judged 1/2 twice: L1 = -weight ln 3/4, L2 = ln 2."""
    batch = negative_row([-2 * LN2] * 2, [-LN2] * 2)
    out = cut_loss(*batch, threshold=1.1, weight=0.7)
    assert_equals(out.loss, -0.7 * math.log(0.75) + LN2)
    assert float(out.metrics["cut/plain_likelihood"]) == 0.0
    assert float(out.metrics["cut/flagged_share"]) == 1.0


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_edge_17_equality_is_not_flagged(dtype: torch.dtype) -> None:
    """log-ratio = ln 2 to the last bit, just above, 0, and impossible in both streams (0/0)."""
    above = LN2 * (1 + 1e-6)
    batch = negative_row([-LN2, -above, -3.0, -math.inf], [0.0, 0.0, -3.0, -math.inf], dtype)
    assert flagged_tokens(*batch, threshold=2.0).tolist() == [[False, True, False, False]]
    assert flagged_tokens(*batch, threshold=1.0).tolist() == [[True, True, False, False]]


def test_edge_17_no_gradient_through_the_flag_or_the_dynamic_weight() -> None:
    """The judged stream's gradient is that of L2 alone, -1/N, at any gamma; the flags have no gradient at all."""
    for gamma in (0.0, 1.0, 2.0):
        plain, judged, *rest = negative_row([-3.0, -1.0], [-0.5, -1.0])
        out = cut_loss(plain, judged, *rest, threshold=1.1, weight=1.0, gamma=gamma)
        assert_grad_equals(out.loss, judged, [[-0.5, -0.5]])
        assert not flagged_tokens(plain, judged, *rest, threshold=1.1).requires_grad


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("logp", [-110.0, -1e30, -math.inf])
def test_edge_18_underflow_is_finite(dtype: torch.dtype, logp: float) -> None:
    """p(y|x) = 0 in the type: flagged, log(1 - 0) = 0, gradient 0; the other token's and L2's terms are untouched."""
    plain, judged, *rest = negative_row([logp, -1.0], [-0.5, -1.0], dtype)
    out = cut_loss(plain, judged, *rest, threshold=1.1, weight=1.0, gamma=0.5)
    assert_equals(out.loss, 0.5 + 0.75)
    assert_grad_equals(out.loss, plain, [[0.0, -0.5]])
    assert_grad_equals(out.loss, judged, [[-0.5, -0.5]])


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_edge_18_underflow_of_an_unflagged_token_is_its_nll(dtype: torch.dtype) -> None:
    """log p = -110 in both streams and in a positive row: 110, where log(softmax) gives inf."""
    batch = negative_row([-110.0, -0.5], [-110.0, -0.5], dtype)
    assert_equals(cut_loss(*batch, threshold=1.1, weight=1.0).loss, 2 * 55.25)
    positive = (*batch[:3], torch.tensor([False]))
    assert_equals(cut_loss(*positive, threshold=1.1, weight=1.0).loss, 55.25)


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_edge_18_certain_tokens_are_unflagged_and_finite(dtype: torch.dtype) -> None:
    """log p = 0 exactly in both streams: never flagged at threshold >= 1, loss 0, gradient -1/N, no NaN from log 0."""
    plain, judged, *rest = negative_row([0.0, -1e-9], [0.0, 0.0], dtype)
    assert not flagged_tokens(plain, judged, *rest, threshold=1.1).any()
    out = cut_loss(plain, judged, *rest, threshold=1.1, weight=1.0, gamma=2.0)
    assert float(out.loss.detach()) == pytest.approx(5e-10, rel=1e-5)
    assert_grad_equals(out.loss, plain, [[-0.5, -0.5]])


@given(st.floats(1.01, 4), st.floats(0.1, 2), TOKENS)
def test_edge_18_the_penalty_is_bounded_for_thresholds_above_one(threshold: float, weight: float, tokens: list) -> None:
    """A flagged p(y|x) < 1/lambda: no token's term exceeds alpha ln(lambda/(lambda - 1))."""
    out = cut_loss(*batch_of([(True, tokens)]), threshold=threshold, weight=weight)
    assert float(out.metrics["cut/unlikelihood"]) <= weight * math.log(threshold / (threshold - 1)) * (1 + 1e-12)


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("logp", [-1e-30, -1e-9, -1e-3, -0.6, -0.8, -20.0])
def test_log1mexp_is_exact_over_the_whole_range(dtype: torch.dtype, logp: float) -> None:
    """Without detection all tokens are penalised: -log(1 - p), gradient p/(1 - p) = 1/expm1(-logp)."""
    plain, judged, *rest = negative_row([logp], [0.0], dtype)
    out = cut_loss(plain, judged, *rest, threshold=1.1, weight=1.0, detect=False)
    stored = float(plain.detach())
    assert float(out.loss.detach()) == pytest.approx(-math.log(-math.expm1(stored)), rel=TOLERANCES[dtype])
    (grad,) = torch.autograd.grad(out.loss, plain)
    assert float(grad) == pytest.approx(1 / math.expm1(-stored), rel=TOLERANCES[dtype])


def test_edge_20_streams_cut_to_nothing_cost_nothing() -> None:
    """A response cut away fully, in a negative and in a positive row: loss 0 and gradient 0, not 0/0."""
    for width in (0, 2):
        plain, judged = (torch.full((2, width), math.nan, requires_grad=True) for _ in range(2))
        mask = torch.zeros(2, width, dtype=torch.bool)
        out = cut_loss(plain, judged, mask, torch.tensor([True, False]), **SETTINGS)
        assert out.per_group.tolist() == [0.0, 0.0]
        for grad in torch.autograd.grad(out.loss, (plain, judged)):
            assert torch.equal(grad, torch.zeros(2, width))
