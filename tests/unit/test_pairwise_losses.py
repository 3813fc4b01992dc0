"""DPO, pairwise NCA, biased NCA, SPIN and Self-Contrast against hand-derived values, properties and fixtures.

A number in a test's name is that of the edge case it covers in the list of METHODS section 4.
"""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, strategies as st

from rayalign.losses import (
    biased_nca_loss,
    dpo_loss,
    info_nca_loss,
    nca_loss,
    pairwise_nca_loss,
    self_contrast_loss,
    spin_hinge_loss,
    spin_loss,
)
from tests.unit.loss_cases import (
    LOGPS,
    TOLERANCES,
    assert_equals,
    assert_grad_equals,
    columns,
    exact_in,
    fixture_cases,
    leaf,
    needs_fixtures,
    padded,
)

PAIRWISE = [dpo_loss, pairwise_nca_loss, biased_nca_loss, spin_loss]
all_pairwise = pytest.mark.parametrize("loss", PAIRWISE)
PAIRS = st.lists(st.tuples(LOGPS, LOGPS, LOGPS, LOGPS), min_size=1, max_size=5)
PAIR_CASES = [case for case in fixture_cases("nca_cases") if "pair" in case["expected"]]


def sigma(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def of_case(case: dict, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    case = exact_in(dtype, case)
    return torch.tensor(case["policy_logps"], dtype=dtype), torch.tensor(case["ref_logps"], dtype=dtype)


@needs_fixtures
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("case", PAIR_CASES, ids=lambda case: case["id"])
@pytest.mark.parametrize(
    ("loss", "key"),
    [(dpo_loss, "dpo"), (spin_loss, "dpo"), (pairwise_nca_loss, "nca_pair"), (biased_nca_loss, "biased_nca")],
)
def test_fixture_pairs(case: dict, dtype: torch.dtype, loss, key: str) -> None:
    policy, reference = of_case(case, dtype)
    rows = torch.arange(len(policy))
    chosen, rejected = case["expected"]["pair"]["chosen_idx"], case["expected"]["pair"]["rejected_idx"]
    arguments = (policy[rows, chosen], policy[rows, rejected], reference[rows, chosen], reference[rows, rejected])
    out = loss(*arguments, beta=case["beta"])
    assert_equals(out.per_group, case["expected"]["pair"][key]["per_example"])
    assert_equals(out.loss, case["expected"]["pair"][key]["mean"])


@needs_fixtures
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("case", PAIR_CASES, ids=lambda case: case["id"])
def test_edge_25_fixture_multi_negative_dpo(case: dict, dtype: torch.dtype) -> None:
    """One target against the K - 1 others, in one call with the others in place and the target masked out."""
    policy, reference = of_case(case, dtype)
    rows, expected = torch.arange(len(policy)), case["expected"]["multi_negative_dpo"]
    target = expected["positive_idx"]
    negatives = torch.ones_like(policy, dtype=torch.bool)
    negatives[rows, target] = False
    out = self_contrast_loss(
        policy[rows, target], policy, reference[rows, target], reference, beta=case["beta"], mask_GK=negatives
    )
    assert_equals(out.per_group, expected["per_example"])
    assert_equals(out.loss, expected["mean"])


@all_pairwise
def test_values_by_hand(loss) -> None:
    """beta = 0.5, log-ratios 2 and -1: s_w = 1, s_l = -1/2."""
    out = loss(*columns([(-3.0, -6.0, -5.0, -5.0)]), beta=0.5)
    by_hand = {
        dpo_loss: -math.log(sigma(1.5)),
        spin_loss: -math.log(sigma(1.5)),
        pairwise_nca_loss: -math.log(sigma(1)) - math.log(sigma(-1)) / 2 - math.log(sigma(0.5)) / 2,
        biased_nca_loss: -math.log(sigma(1)) - math.log(sigma(0.5)),
    }
    assert_equals(out.loss, by_hand[loss])


@all_pairwise
@given(PAIRS)
def test_gradients_are_the_closed_forms(loss, pairs: list) -> None:
    """d loss / d s_w and d loss / d s_l, times beta / B."""
    policy_w, policy_l, reference_w, reference_l = columns(pairs)
    policy_w.requires_grad_(), policy_l.requires_grad_()
    s_w, s_l = 0.3 * (policy_w - reference_w).detach(), 0.3 * (policy_l - reference_l).detach()
    out = loss(policy_w, policy_l, reference_w, reference_l, beta=0.3)
    wrong = torch.sigmoid(s_l - s_w)
    closed = {
        dpo_loss: (-wrong, wrong),
        spin_loss: (-wrong, wrong),
        pairwise_nca_loss: (torch.sigmoid(s_w) / 2 - torch.sigmoid(-s_w), torch.sigmoid(s_l) / 2),
        biased_nca_loss: (-torch.sigmoid(-s_w), torch.sigmoid(s_l)),
    }[loss]
    assert_grad_equals(out.loss, policy_w, 0.3 * closed[0] / len(pairs))
    assert_grad_equals(out.loss, policy_l, 0.3 * closed[1] / len(pairs))


@all_pairwise
def test_edge_01_start_of_training(loss) -> None:
    """policy == reference: both s are 0; one log sigma(0) in DPO and SPIN, two in the NCA forms."""
    chosen, rejected = torch.randn(2, 5, dtype=torch.float64)
    out = loss(chosen, rejected, chosen, rejected, beta=0.1)
    assert_equals(out.per_group, [(1 if loss in (dpo_loss, spin_loss) else 2) * math.log(2)] * 5)


@all_pairwise
@given(PAIRS, st.floats(300, 400))
def test_edge_08_a_shift_of_both_scores_changes_nca_alone(loss, pairs: list, shift: float) -> None:
    """Chosen and rejected raised alike: DPO sees no difference; NCA and its variant see them leave the anchor.

    |s| <= 18, so that neither of the two exceeds 36 + 2 ln 2; 90 more on every s make their noise terms 72 or more.
    """
    policy_w, policy_l, reference_w, reference_l = columns(pairs)
    base = loss(policy_w, policy_l, reference_w, reference_l, beta=0.3).per_group
    shifted = loss(policy_w + shift, policy_l + shift, reference_w, reference_l, beta=0.3).per_group
    assert torch.allclose(shifted, base) == (loss in (dpo_loss, spin_loss))


@all_pairwise
@given(PAIRS, st.randoms(use_true_random=False))
def test_rows_are_independent(loss, pairs: list, random) -> None:
    """Whatever the order and the batch: each row's loss is its own, the scalar their mean."""
    out = loss(*columns(pairs), beta=0.3)
    order = random.sample(range(len(pairs)), len(pairs))
    permuted = loss(*columns([pairs[i] for i in order]), beta=0.3)
    torch.testing.assert_close(permuted.per_group, out.per_group[order])
    alone = torch.cat([loss(*columns([pair]), beta=0.3).per_group for pair in pairs])
    torch.testing.assert_close(alone, out.per_group)
    torch.testing.assert_close(out.loss, alone.mean())


@all_pairwise
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_edge_09_extreme_scores_stay_finite(loss, dtype: torch.dtype) -> None:
    """s_w = -900, s_l = 900 and back: DPO 1800, 0; NCA 900 + 450, 450; biased NCA 1800, 0."""
    chosen = torch.tensor([-900.0, 900.0], dtype=dtype, requires_grad=True)
    zeros = torch.zeros(2, dtype=dtype)
    out = loss(chosen, -chosen.detach(), zeros, zeros, beta=1.0)
    assert_equals(out.per_group, [1350.0, 450.0] if loss is pairwise_nca_loss else [1800.0, 0.0])
    assert_grad_equals(out.loss, chosen, [-0.5, 0.25] if loss is pairwise_nca_loss else [-0.5, 0.0])


@given(st.floats(-300, 300), st.floats(-300, 300))
def test_edge_13_two_responses_at_alpha_zero_are_the_pairwise_losses(s_w: float, s_l: float) -> None:
    zeros = torch.zeros(1, dtype=torch.float64)
    pair = (leaf([s_w]), leaf([s_l]), zeros, zeros)
    arguments = (leaf([[s_l, s_w]]), torch.zeros(1, 2), torch.tensor([[-1.0, 1.0]]))
    info = info_nca_loss(*arguments, alpha=1e-12, beta=0.9).per_group
    torch.testing.assert_close(info, dpo_loss(*pair, beta=0.9).per_group, rtol=1e-14, atol=1e-14)
    nca = nca_loss(*arguments, alpha=1e-12, beta=0.9).per_group
    torch.testing.assert_close(nca, pairwise_nca_loss(*pair, beta=0.9).per_group, rtol=1e-14, atol=1e-14)


@all_pairwise
def test_edge_13_the_chosen_response_rises(loss) -> None:
    """At s = 0 the loss falls as the chosen logp rises and as the rejected one falls."""
    chosen, rejected = leaf([-4.0]), leaf([-5.0])
    loss(chosen, rejected, chosen.detach(), rejected.detach(), beta=0.1).loss.backward()
    assert chosen.grad is not None and rejected.grad is not None
    assert float(chosen.grad) < 0 < float(rejected.grad)


@all_pairwise
def test_bad_arguments_are_refused(loss) -> None:
    two, one = torch.zeros(2), torch.zeros(1)
    for beta in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"beta is {beta}"):
            loss(two, two, two, two, beta=beta)
    with pytest.raises(ValueError, match=r"reference_rejected_logps_B has shape \(1,\)"):
        loss(two, two, two, one, beta=1.0)
    with pytest.raises(ValueError, match=r"policy_rejected_logps_B is torch\.float16"):
        loss(two, two.half(), two, two, beta=1.0)


@all_pairwise
def test_metrics(loss) -> None:
    """Log-ratios chosen (2, -1), rejected (-1, 3), beta 0.5: margins 1.5 and -2, one of two right."""
    arguments = columns([(-3.0, -6.0, -5.0, -5.0), (-6.0, -2.0, -5.0, -5.0)])
    out = loss(*[a.requires_grad_() for a in arguments], beta=0.5)
    assert not any(value.requires_grad for value in out.metrics.values())
    assert {name: float(value) for name, value in out.metrics.items()} == {
        "logratio/chosen": 0.5,
        "logratio/rejected": 1.0,
        "implicit_reward/chosen": 0.25,
        "implicit_reward/rejected": 0.5,
        "implicit_reward/margin": -0.25,
        "implicit_reward/accuracy": 0.5,
    }


PROMPTS = st.lists(
    st.tuples(LOGPS, LOGPS, st.lists(st.tuples(LOGPS, LOGPS), min_size=1, max_size=5)), min_size=1, max_size=4
)


@given(PROMPTS, st.integers(0, 3), st.booleans())
def test_edge_25_self_contrast_is_the_mean_over_pair_rows(prompts: list, extra: int, left: bool) -> None:
    """One DPO row per negative, averaged per prompt, for ragged k; NaN in the padded slots reaches nothing."""
    width = max(len(negatives) for *_, negatives in prompts) + extra
    policy, mask = padded([[p for p, _ in ns] for *_, ns in prompts], width, math.nan, left=left)
    reference, _ = padded([[r for _, r in ns] for *_, ns in prompts], width, math.nan, left=left)
    policy.requires_grad_()
    target, target_reference = leaf([p for p, *_ in prompts]), torch.tensor([r for _, r, _ in prompts]).double()
    out = self_contrast_loss(target, policy, target_reference, reference, beta=0.2, mask_GK=mask)
    rows = [[(t, p, tr, r) for p, r in negatives] for t, tr, negatives in prompts]
    expected = torch.stack([dpo_loss(*columns(pairs), beta=0.2).loss for pairs in rows])
    torch.testing.assert_close(out.per_group, expected)
    target_grad, grad = torch.autograd.grad(out.loss, (target, policy))
    assert torch.equal(grad[~mask], torch.zeros(int((~mask).sum()), dtype=torch.float64))
    # Each pair pushes its target up exactly as far as its negative down.
    torch.testing.assert_close(target_grad, -grad.sum(-1))


@given(PAIRS)
def test_edge_25_one_negative_is_dpo_and_spin(pairs: list) -> None:
    """k = 1: the same number three times, metrics included."""
    chosen, rejected, reference_chosen, reference_rejected = columns(pairs)
    out = self_contrast_loss(chosen, rejected[:, None], reference_chosen, reference_rejected[:, None], beta=0.4)
    for loss in (dpo_loss, spin_loss):
        pairwise = loss(chosen, rejected, reference_chosen, reference_rejected, beta=0.4)
        torch.testing.assert_close(out.per_group, pairwise.per_group)
        assert {k: float(v) for k, v in out.metrics.items()} == pytest.approx(
            {k: float(v) for k, v in pairwise.metrics.items()}
        )


def test_self_contrast_by_hand_and_not_a_joint_softmax() -> None:
    """Target 1, negatives 0 and -1 (s itself): (-log sigma(1) - log sigma(2)) / 2, not -log softmax(1, 0, -1)."""
    zeros = torch.zeros(1, 2, dtype=torch.float64)
    out = self_contrast_loss(leaf([1.0]), leaf([[0.0, -1.0]]), zeros[0, :1], zeros, beta=1.0)
    assert_equals(out.loss, -(math.log(sigma(1)) + math.log(sigma(2))) / 2)
    joint = -math.log(math.e / (math.e + 1 + math.exp(-1)))
    assert float(out.loss.detach()) != pytest.approx(joint, rel=0.1)


def test_self_contrast_metrics_average_over_the_real_negatives() -> None:
    """Target log-ratio 1 against 0 and 2 (one win of two), target 3 against -1: means 2, 0, accuracy (1/2 + 1)/2."""
    mask = torch.tensor([[True, True], [True, False]])
    negatives = torch.tensor([[0.0, 2.0], [-1.0, 50.0]])
    target = torch.tensor([1.0, 3.0])
    out = self_contrast_loss(target, negatives, torch.zeros(2), torch.zeros(2, 2), beta=0.5, mask_GK=mask)
    assert {name: float(value) for name, value in out.metrics.items()} == {
        "logratio/chosen": 2.0,
        "logratio/rejected": 0.0,
        "implicit_reward/chosen": 1.0,
        "implicit_reward/rejected": 0.0,
        "implicit_reward/margin": 1.0,
        "implicit_reward/accuracy": 0.75,
    }


def test_self_contrast_refuses_bad_arguments() -> None:
    """Two prompts with three negatives, none of the second in the mask; a target too few; beta 0."""
    targets, negatives = torch.zeros(2), torch.zeros(2, 3)
    mask = torch.tensor([[True] * 3, [False] * 3])
    with pytest.raises(ValueError, match="group 1 has no negative"):
        self_contrast_loss(targets, negatives, targets, negatives, beta=0.1, mask_GK=mask)
    with pytest.raises(ValueError, match=r"counts_of_mask_GK has shape \(2,\), policy_target_logps_G has \(1,\)"):
        self_contrast_loss(targets[:1], negatives, targets[:1], negatives, beta=0.1)
    with pytest.raises(ValueError, match=r"beta is 0\.0"):
        self_contrast_loss(targets, negatives, targets, negatives, beta=0.0)


def test_spin_hinge_by_hand_and_flat_beyond_the_margin() -> None:
    """beta = 0.5: log-ratios 2 and -1 are 1.5 apart: 0; log-ratios 0.5 and -0.5 are 0.5 apart: 1 - 0.5."""
    rows = columns([(-3.0, -6.0, -5.0, -5.0), (-4.5, -5.5, -5.0, -5.0)])
    rows[0].requires_grad_()
    out = spin_hinge_loss(*rows, beta=0.5)
    assert_equals(out.per_group, [0.0, 0.5])
    (gradient,) = torch.autograd.grad(out.loss, rows[0])
    assert gradient.tolist() == [0.0, -0.25]
