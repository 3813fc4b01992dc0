"""CUT against hand-derived values, closed-form gradients, and the float64 fixtures; its ablations and its errors."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, strategies as st

from rayalign.losses import cut_loss, flagged_tokens
from tests.unit.cut_cases import LN2, ROWS, SETTINGS, Batch, batch_of, negative_row
from tests.unit.loss_cases import (
    TOLERANCES,
    assert_equals,
    assert_grad_equals,
    fixture_cases,
    needs_fixtures,
    padded,
)


def batch_of_case(case: dict, dtype: torch.dtype) -> Batch:
    examples = case["examples"]
    width = max(len(example["logp_x"]) for example in examples)
    plain, mask = padded([example["logp_x"] for example in examples], width, 0.0)
    judged, _ = padded([example.get("logp_xj", []) for example in examples], width, math.nan)
    negative = torch.tensor([example["is_negative"] for example in examples])
    return plain.to(dtype).requires_grad_(), judged.to(dtype).requires_grad_(), mask, negative


def released_gradients(case: dict, mask: torch.Tensor, stream: str) -> torch.Tensor:
    """The release's gradient at gamma 0, from its normalisation to the paper's.

    Release: halves if there is a negative row, and 1/(tokens of the rows in that stream). Paper: 1/(B N_row).
    """
    negatives = torch.tensor([example["is_negative"] for example in case["examples"]])
    rows = case["expected"][f"released_grad_{stream}_stream"]
    values, _ = padded([row or [] for row in rows], mask.shape[1], 0.0)
    lengths = mask.sum(-1, keepdim=True)
    tokens = lengths.sum() if stream == "like" else lengths[negatives].sum()
    return values * (2 if negatives.any() else 1) * tokens / (len(rows) * lengths)


@needs_fixtures
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("case", fixture_cases("cut_cases"), ids=lambda case: case["id"])
def test_fixture_losses_and_flags(case: dict, dtype: torch.dtype) -> None:
    """The dynamic weight with the case's gamma and without; edge 16 (no negative, all, one of each) is among them."""
    batch = batch_of_case(case, dtype)
    settings = {"threshold": case["threshold"], "weight": case["weight_unlike"]}
    for gamma, key in ((0.0, "paper_gamma0"), (case["gamma"], "paper_gamma")):
        out = cut_loss(*batch, **settings, gamma=gamma)
        assert_equals(out.per_group, [row["total"] for row in case["expected"][key]])
        assert_equals(out.loss, case["expected"][f"{key}_batch_mean"])
        l1 = [
            row["L1"] if e["is_negative"] else row["L2"]
            for row, e in zip(case["expected"][key], case["examples"], strict=True)
        ]
        first = out.metrics["cut/plain_likelihood"] + out.metrics["cut/unlikelihood"]
        assert_equals(first, sum(l1) / len(l1))
    flags = flagged_tokens(*batch, threshold=case["threshold"])
    for row, expected in zip(flags.tolist(), case["expected"]["flagged"], strict=True):
        assert row == (expected or []) + [False] * (len(row) - len(expected or []))


@needs_fixtures
@pytest.mark.parametrize("case", fixture_cases("cut_cases"), ids=lambda case: case["id"])
def test_edge_16_fixture_release(case: dict) -> None:
    """The release's gradients are ours under another normalisation; of one negative row it makes (L1 + L2)/2.

    A batch without negatives has the plain NLL, without the half.
    """
    plain, judged, mask, negative = batch = batch_of_case(case, torch.float64)
    out = cut_loss(*batch, threshold=case["threshold"], weight=case["weight_unlike"])
    if len(mask) == 1:
        halved = out.loss / 2 if negative.all() else out.loss
        assert_equals(halved, case["expected"]["released_total"])
    like = released_gradients(case, mask, "like")
    unlike = released_gradients(case, mask, "unlike")
    assert_grad_equals(out.loss, plain, torch.where(negative[:, None], unlike, like))
    assert_grad_equals(out.loss, judged, torch.where(negative[:, None], like, torch.zeros_like(like)))


def test_values_by_hand() -> None:
    """Plain (1/4, 1/2), judged (1/2, 1/2), threshold 1.1: the first token is flagged, log(1 - 1/4) = ln 3/4.

    L1 = -(1/2) [ln 1/2 + weight (1/2)^gamma ln 3/4], L2 = -(1/2) 2 ln 1/2; the positive row: -(1/1) ln 1/4.
    """
    rows = [(True, [(-2 * LN2, -LN2), (-LN2, -LN2)]), (False, [(-2 * LN2, 0.0)])]
    out = cut_loss(*batch_of(rows), threshold=1.1, weight=0.8, gamma=2.0)
    unlikelihood = -0.8 * 0.25 * math.log(0.75) / 2
    assert_equals(out.per_group, [LN2 / 2 + unlikelihood + LN2, 2 * LN2])
    assert {name: float(value) for name, value in out.metrics.items()} == pytest.approx(
        {
            "cut/plain_likelihood": (LN2 / 2 + 2 * LN2) / 2,
            "cut/judged_likelihood": LN2 / 2,
            "cut/unlikelihood": unlikelihood / 2,
            "cut/negative_rows": 0.5,
            "cut/negative_tokens": 1.0,
            "cut/flagged_tokens": 0.5,
            "cut/flagged_share": 0.5,
        }
    )
    assert not any(value.requires_grad for value in out.metrics.values())


@given(ROWS, st.floats(0.3, 3), st.floats(0, 2), st.sampled_from([0.0, 0.25, 2.0]))
def test_gradients_are_the_closed_forms(rows: list, threshold: float, weight: float, gamma: float) -> None:
    """Plain stream: -1/N, of a flagged token weight p_j^gamma p/(1 - p)/N. Judged stream: -1/N, whatever the weight."""
    plain, judged, mask, negative = batch = batch_of(rows)
    out = cut_loss(*batch, threshold=threshold, weight=weight, gamma=gamma)
    flagged = flagged_tokens(*batch, threshold=threshold)
    p, p_judged = plain.detach().exp(), judged.detach().exp()
    share = mask.double() / (mask.sum(-1, keepdim=True).clamp(min=1) * len(rows))
    closed = torch.where(flagged, weight * p_judged**gamma * p / (1 - p), -torch.ones_like(p)) * share
    assert_grad_equals(out.loss, plain, closed)
    assert_grad_equals(out.loss, judged, -share * negative[:, None])


@given(ROWS)
def test_metrics_average_exactly_over_micro_batches(rows: list) -> None:
    """All but the ratio are means over rows: weighted by rows, those of single rows give those of the batch."""
    whole = cut_loss(*batch_of(rows), **SETTINGS)
    parts = [cut_loss(*batch_of([row]), **SETTINGS).metrics for row in rows]
    for name in whole.metrics.keys() - {"cut/flagged_share"}:
        mean = sum(float(part[name]) for part in parts) / len(parts)
        assert float(whole.metrics[name]) == pytest.approx(mean, rel=1e-12, abs=1e-12)
    terms = ("cut/plain_likelihood", "cut/judged_likelihood", "cut/unlikelihood")
    assert sum(float(whole.metrics[t]) for t in terms) == pytest.approx(float(whole.loss.detach()), abs=1e-12)


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_no_detection_penalises_every_token_of_negative_rows(dtype: torch.dtype) -> None:
    """p = 1/4 and p = 1/2, neither flagged; p = 1 to the last bit is finite; the positive row keeps its NLL."""
    plain = torch.tensor([[-2 * LN2, -LN2], [-1.0, -1.0], [0.0, -LN2]], dtype=dtype, requires_grad=True)
    judged = torch.tensor([[-5.0, -5.0], [-1.0, -1.0], [-1.0, -math.inf]], dtype=dtype)
    mask = torch.tensor([[True, True], [True, True], [True, False]])
    out = cut_loss(plain, judged, mask, torch.tensor([True, False, True]), threshold=1.1, weight=0.5, detect=False)
    assert_equals(out.per_group[:2], [0.5 * (math.log(4 / 3) + LN2) / 2 + 5.0, 1.0])
    assert 0.5 * 80 < float(out.per_group[2].detach()) < math.inf
    (grad,) = torch.autograd.grad(out.loss, plain)
    assert torch.isfinite(grad).all()
    assert float(out.metrics["cut/flagged_share"]) == 1.0


def test_no_detection_with_an_impossible_judged_token() -> None:
    """p(y|x,j) = 0: the dynamic weight 0^gamma is 0, and 1 at gamma 0; L2 is infinite, the UL term is not NaN."""
    batch = negative_row([-LN2], [-math.inf])
    for gamma, expected in ((0.0, LN2), (1.0, 0.0)):
        out = cut_loss(*batch, threshold=1.1, weight=1.0, gamma=gamma, detect=False)
        assert float(out.metrics["cut/unlikelihood"]) == pytest.approx(expected)


def test_without_unlikelihood_flagged_tokens_have_no_term() -> None:
    """Plain (1/4 flagged, 1/2), judged (1/2, 1/2): L1 = ln 2 / 2, L2 = ln 2; gradient 0 at the flagged token."""
    plain, judged, *rest = negative_row([-2 * LN2, -LN2], [-LN2, -LN2])
    out = cut_loss(plain, judged, *rest, threshold=1.1, weight=1.0, unlikelihood=False)
    assert_equals(out.loss, LN2 / 2 + LN2)
    assert_grad_equals(out.loss, plain, [[0.0, -0.5]])
    assert float(out.metrics["cut/flagged_share"]) == 0.5
    assert float(out.metrics["cut/unlikelihood"]) == 0.0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("threshold", value) for value in (0.0, -1.0, math.nan, math.inf)),
        *((name, value) for name in ("weight", "gamma") for value in (-0.1, math.nan, math.inf)),
    ],
)
def test_bad_settings_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        cut_loss(*negative_row([-1.0], [-1.0]), **{**SETTINGS, name: value})


def test_bad_tensors_are_refused() -> None:
    plain, judged, mask, negative = negative_row([-1.0, -1.0], [-1.0, -1.0])
    with pytest.raises(ValueError, match="judged_logps_BT has shape"):
        cut_loss(plain, judged[:, :1], mask, negative, **SETTINGS)
    with pytest.raises(ValueError, match="negative_B has shape"):
        flagged_tokens(plain, judged, mask, torch.tensor([True, True]), threshold=1.1)
    with pytest.raises(ValueError, match=r"plain_logps_BT is torch\.bfloat16"):
        cut_loss(plain.bfloat16(), judged, mask, negative, **SETTINGS)
