"""NCA and InfoNCA against hand-derived values, properties, and the float64 fixtures of the papers' equations.

A number in a test's name is that of the edge case it covers in the list of METHODS section 4.
"""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, strategies as st

from rayalign.losses import info_nca_loss, nca_loss
from rayalign.losses.logprobs import token_logps
from tests.unit.loss_cases import (
    TOLERANCES,
    assert_equals,
    assert_grad_equals,
    columns,
    exact_in,
    fixture_cases,
    leaf,
    needs_fixtures,
    padded,
    ragged_groups,
)

both_losses = pytest.mark.parametrize("loss", [nca_loss, info_nca_loss])


def tensors(case: dict, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    policy = torch.tensor(case["policy_logps"], dtype=dtype, requires_grad=True)
    return policy, torch.tensor(case["ref_logps"], dtype=dtype), torch.tensor(case["rewards"], dtype=dtype)


@needs_fixtures
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("case", fixture_cases("nca_cases"), ids=lambda case: case["id"])
@pytest.mark.parametrize(("loss", "key"), [(nca_loss, "nca_paper"), (info_nca_loss, "infonca")])
def test_fixture_losses_and_gradients(case: dict, dtype: torch.dtype, loss, key: str) -> None:
    """`grad` in the fixtures is the gradient of the batch mean with respect to the policy's log-probs."""
    policy, reference, rewards = tensors(exact_in(dtype, case), dtype)
    out = loss(policy, reference, rewards, alpha=case["alpha"], beta=case["beta"])
    expected = case["expected"][key]
    assert_equals(out.per_group, expected["per_example"])
    assert_equals(out.loss, expected["mean"])
    assert_grad_equals(out.loss, policy, expected["grad"])


@needs_fixtures
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("case", fixture_cases("ragged_cases"), ids=lambda case: case["id"])
def test_fixture_ragged_groups(case: dict, dtype: torch.dtype) -> None:
    policy, reference, rewards = tensors(exact_in(dtype, case), dtype)
    settings = {"alpha": case["alpha"], "beta": case["beta"], "mask_GK": torch.tensor(case["mask"])}
    nca = nca_loss(policy, reference, rewards, **settings)
    info = info_nca_loss(policy, reference, rewards, **settings)
    assert_equals(nca.per_group, case["expected"]["nca_paper_per_example"])
    assert_equals(info.per_group, case["expected"]["infonca_per_example"])
    assert_equals(nca.loss, case["expected"]["nca_paper_mean"])


@given(ragged_groups())
def test_gradients_are_the_closed_forms(groups: list) -> None:
    """InfoNCA beta (softmax(s)_i - w_i), NCA beta (sigma(s_i)/K - w_i sigma(-s_i)), one group at a time."""
    for group in groups:
        policy_K, reference_K, rewards_K = columns(group)
        policy = policy_K[None].requires_grad_()
        s, w = 0.3 * (policy_K - reference_K).detach(), torch.softmax(rewards_K / 0.7, 0)
        arguments = (policy, reference_K[None], rewards_K[None])
        info = info_nca_loss(*arguments, alpha=0.7, beta=0.3)
        nca = nca_loss(*arguments, alpha=0.7, beta=0.3)
        assert_grad_equals(info.loss, policy, 0.3 * (torch.softmax(s, 0) - w)[None])
        closed = 0.3 * (torch.sigmoid(s) / len(group) - w * torch.sigmoid(-s))
        assert_grad_equals(nca.loss, policy, closed[None])


def test_edge_01_start_of_training() -> None:
    """policy == reference: every s is 0, softmax is 1/K and sigma is 1/2, so InfoNCA = ln K and NCA = 2 ln 2."""
    logps = torch.randn(5, 7, dtype=torch.float64)
    rewards = torch.randn(5, 7, dtype=torch.float64)
    assert float(info_nca_loss(logps, logps, rewards, alpha=0.1, beta=0.3).loss) == pytest.approx(math.log(7))
    assert float(nca_loss(logps, logps, rewards, alpha=0.1, beta=0.3).loss) == pytest.approx(2 * math.log(2))


def test_edge_02_equal_rewards_prefer_nobody() -> None:
    """w = 1/K: at s = 0 InfoNCA's gradient 1/K - w and NCA's half of it vanish for every response."""
    policy = torch.zeros(1, 4, dtype=torch.float64, requires_grad=True)
    for loss in (nca_loss, info_nca_loss):
        out = loss(policy, policy.detach(), torch.full((1, 4), 3.0, dtype=torch.float64), alpha=1e-4, beta=1.0)
        assert_grad_equals(out.loss, policy, [[0.0] * 4])


def test_edge_02_equal_rewards_anchor_nca_alone() -> None:
    """w = 1/K, s = c for all: InfoNCA is content with any c; NCA's gradient (2 sigma(c) - 1)/K pulls c back to 0."""
    equal = torch.zeros(1, 2, dtype=torch.float64)
    for c in (-1.5, 1.5):
        policy = leaf([[c, c]])
        assert_grad_equals(info_nca_loss(policy, equal, equal, alpha=1.0, beta=1.0).loss, policy, [[0.0, 0.0]])
        pull = (2 / (1 + math.exp(-c)) - 1) / 2
        assert pull * c > 0
        assert_grad_equals(nca_loss(policy, equal, equal, alpha=1.0, beta=1.0).loss, policy, [[pull, pull]])


@pytest.mark.parametrize("alpha", [1e-4, 1e-30, 1e-39, 1e-45, 1e-300])
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_edge_03_top_tie_at_tiny_alpha_splits_the_mass(alpha: float, dtype: torch.dtype) -> None:
    """r / alpha overflows, alpha itself may be 0 in float32; two equal best responses share: -1/2 (lsm0 + lsm1)."""
    policy = torch.tensor([[1.0, 0.0, 0.5]], dtype=dtype)
    rewards = torch.tensor([[9.0, 9.0, 1.0]], dtype=dtype)
    out = info_nca_loss(policy, torch.zeros(1, 3, dtype=dtype), rewards, alpha=alpha, beta=1.0)
    log_softmax = torch.log_softmax(policy[0], dim=0)
    torch.testing.assert_close(out.loss, -(log_softmax[0] + log_softmax[1]) / 2)


@pytest.mark.parametrize("alpha", [1e12, 1e39, 1e300])
def test_edge_03_large_alpha_is_uniform_over_what_has_weight(alpha: float) -> None:
    """w = 1/2 for the two finite rewards, 0 for -inf and for the padded slot, in float32 too."""
    policy = torch.tensor([[1.0, 0.0, 0.5, 7.0]])
    rewards = torch.tensor([[9.0, 1.0, -math.inf, 0.0]])
    mask = torch.tensor([[True, True, True, False]])
    out = info_nca_loss(policy, torch.zeros(1, 4), rewards, alpha=alpha, beta=1.0, mask_GK=mask)
    log_softmax = torch.log_softmax(policy[0, :3], dim=0)
    torch.testing.assert_close(out.loss, -(log_softmax[0] + log_softmax[1]) / 2)


@pytest.mark.parametrize(
    ("name", "value"),
    [("alpha", 0.0), ("alpha", -1.0), ("alpha", math.nan), ("alpha", math.inf), ("beta", 0.0), ("beta", math.nan)],
)
@both_losses
def test_edge_03_bad_settings_are_refused(loss, name: str, value: float) -> None:
    zeros = torch.zeros(1, 2)
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        loss(zeros, zeros, zeros, **{"alpha": 1.0, "beta": 1.0, name: value})


@both_losses
@pytest.mark.parametrize("reward", [math.nan, math.inf])
def test_edge_04_bad_reward_names_its_row(loss, reward: float) -> None:
    rewards = torch.tensor([[0.0, 1.0], [0.0, reward]])
    with pytest.raises(ValueError, match="group 1, response 1"):
        loss(torch.zeros(2, 2), torch.zeros(2, 2), rewards, alpha=1.0, beta=1.0)


def test_edge_04_minus_infinity_is_weight_zero_unless_all_are() -> None:
    """-inf leaves InfoNCA with the one-hot label on the other response: -log softmax(0, 0)_1 = ln 2."""
    zeros = torch.zeros(1, 2)
    out = info_nca_loss(zeros, zeros, torch.tensor([[-math.inf, 1.0]]), alpha=1.0, beta=1.0)
    assert float(out.loss) == pytest.approx(math.log(2))
    with pytest.raises(ValueError, match="group 0 has no response with a finite reward"):
        nca_loss(zeros, zeros, torch.full((1, 2), -math.inf), alpha=1.0, beta=1.0)


def test_edge_05_one_response() -> None:
    """K = 1: InfoNCA is 0 with zero gradient; NCA is -log sigma(s) - log sigma(-s), a pure anchor at s = 0."""
    zero = torch.zeros(1, 1, dtype=torch.float64)
    policy = leaf([[0.7]])
    info = info_nca_loss(policy, zero, zero, alpha=1.0, beta=1.0)
    assert float(info.loss.detach()) == 0.0
    assert float(torch.autograd.grad(info.loss, policy)[0]) == 0.0
    expected = -math.log(1 / (1 + math.exp(-0.7))) - math.log(1 / (1 + math.exp(0.7)))
    assert float(nca_loss(policy, zero, zero, alpha=1.0, beta=1.0).loss.detach()) == pytest.approx(expected, rel=1e-12)
    assert expected > 2 * math.log(2)
    anchored = leaf([[0.0]])
    assert_grad_equals(nca_loss(anchored, zero, zero, alpha=1.0, beta=1.0).loss, anchored, [[0.0]])


@both_losses
@given(groups=ragged_groups(), extra=st.integers(0, 3), left=st.booleans(), fill=st.sampled_from([0.0, 1e4, math.nan]))
def test_edge_06_12_ragged_k_equals_one_group_at_a_time(
    loss, groups: list, extra: int, left: bool, fill: float
) -> None:
    """Whatever stands in the padded slots, how many there are and on which side; their gradient is exactly 0."""
    width = max(map(len, groups)) + extra
    columns = [[[response[column] for response in group] for group in groups] for column in range(3)]
    (policy, mask), (reference, _), (rewards, _) = (
        padded(column, width, value, left=left) for column, value in zip(columns, (fill, fill, math.nan), strict=True)
    )
    policy.requires_grad_()
    settings = {"alpha": 0.5, "beta": 0.3}
    out = loss(policy, reference, rewards, **settings, mask_GK=mask)
    (grad,) = torch.autograd.grad(out.loss, policy)
    assert torch.equal(grad[~mask], torch.zeros(int((~mask).sum()), dtype=torch.float64))
    for g in range(len(groups)):
        alone = leaf([columns[0][g]])
        single = loss(alone, *(torch.tensor([c[g]], dtype=torch.float64) for c in columns[1:]), **settings)
        torch.testing.assert_close(single.per_group[0], out.per_group[g])
        assert_grad_equals(single.loss / len(groups), alone, grad[g][mask[g]][None])
    assert all(not value.requires_grad for value in out.metrics.values())


@pytest.mark.parametrize(("rewards", "other"), [((2.0, 2.0), 1.0), ((0.0, 3.0), 1.0)])
def test_edge_07_duplicates_count_as_often_as_they_stand(rewards: tuple[float, float], other: float) -> None:
    """One response given twice, with equal or conflicting rewards: the label holds w1 + w2, the noise two thirds."""
    s_twice, s_other = 0.4, -0.9
    w = torch.softmax(torch.tensor([*rewards, other], dtype=torch.float64) / 0.8, 0).tolist()
    log_sigma = lambda x: -math.log1p(math.exp(-x))  # noqa: E731
    nca = -(w[0] + w[1]) * log_sigma(s_twice) - w[2] * log_sigma(s_other)
    nca -= (2 * log_sigma(-s_twice) + log_sigma(-s_other)) / 3
    normaliser = math.log(2 * math.exp(s_twice) + math.exp(s_other))
    info = -(w[0] + w[1]) * (s_twice - normaliser) - w[2] * (s_other - normaliser)
    arguments = (leaf([[s_twice, s_twice, s_other]]), torch.zeros(1, 3, dtype=torch.float64), leaf([[*rewards, other]]))
    assert_equals(nca_loss(*arguments, alpha=0.8, beta=1.0).loss, nca)
    assert_equals(info_nca_loss(*arguments, alpha=0.8, beta=1.0).loss, info)


@both_losses
@given(
    groups=ragged_groups(), seed=st.integers(0, 1000), shift=st.floats(300, 400), reward_shift=st.integers(-100, 100)
)
def test_edge_08_permutation_and_shifts(loss, groups: list, seed: int, shift: float, reward_shift: int) -> None:
    """Order does not matter, the gradient is permuted along; a constant added to all rewards changes nothing.

    A constant added to all s leaves InfoNCA as it is. |s| <= 42, so NCA <= 84 + 2 ln 2, and adding 210 or more to every
    s makes the noise term at least 168.
    """
    group = groups[0]
    policy, reference, rewards = (column[None] for column in columns(group))
    policy.requires_grad_()
    settings = {"alpha": 0.5, "beta": 0.7}
    base = loss(policy, reference, rewards, **settings)
    (grad,) = torch.autograd.grad(base.loss, policy)
    order = torch.randperm(len(group), generator=torch.Generator().manual_seed(seed))
    moved = policy.detach()[:, order].requires_grad_()
    permuted = loss(moved, reference[:, order], rewards[:, order], **settings)
    torch.testing.assert_close(permuted.per_group, base.per_group)
    assert_grad_equals(permuted.loss, moved, grad[:, order])
    torch.testing.assert_close(loss(policy, reference, rewards + reward_shift, **settings).per_group, base.per_group)
    shifted = loss(policy + shift, reference, rewards, **settings).per_group
    unmoved = torch.allclose(shifted, base.per_group)
    assert unmoved == (loss is info_nca_loss)


@both_losses
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_edge_09_extreme_scores_stay_finite(loss, dtype: torch.dtype) -> None:
    """s = 900, -900, 0 with w = (0, 1, 0) to the digit: NCA = 900 + 900/3 + ln 2/3, InfoNCA = 1800."""
    policy = torch.tensor([[900.0, -900.0, 0.0]], dtype=dtype, requires_grad=True)
    rewards = torch.tensor([[0.0, 1.0, 0.5]], dtype=dtype)
    out = loss(policy, torch.zeros(1, 3, dtype=dtype), rewards, alpha=1e-3, beta=1.0)
    assert_equals(out.loss, 1800.0 if loss is info_nca_loss else 1200.0 + math.log(2) / 3)
    nca, info = [[1 / 3, -1.0, 1 / 6]], [[1.0, -1.0, 0.0]]
    assert_grad_equals(out.loss, policy, info if loss is info_nca_loss else nca)


@both_losses
def test_edge_09_half_precision_sums_are_refused(loss) -> None:
    zeros = torch.zeros(1, 2)
    with pytest.raises(ValueError, match=r"policy_logps_GK is torch\.bfloat16"):
        loss(zeros.bfloat16(), zeros, zeros, alpha=1.0, beta=1.0)


@both_losses
def test_edge_10_empty_response_has_score_zero(loss) -> None:
    """No token, not even EOS: both sums are 0, so s = 0; it neither divides by its length nor drops out of K."""
    empty = token_logps(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), torch.nn.Identity()).sum()
    policy = torch.stack([torch.tensor(-2.0), empty])[None]
    reference = torch.stack([torch.tensor(-2.0), empty])[None]
    out = loss(policy, reference, torch.tensor([[1.0, 0.0]]), alpha=0.5, beta=0.3)
    assert_equals(out.loss, math.log(2) if loss is info_nca_loss else 2 * math.log(2))


@both_losses
def test_edge_13_a_higher_reward_raises_its_log_probability(loss) -> None:
    """At s = 0 the loss falls as the best response's logp rises, and as the worst one's falls."""
    policy = leaf([[0.0, 0.0, 0.0]])
    out = loss(policy, policy.detach(), torch.tensor([[2.0, 0.0, 1.0]]), alpha=1.0, beta=0.5)
    (grad,) = torch.autograd.grad(out.loss, policy)
    assert float(grad[0, 0]) < 0 < float(grad[0, 1])


@both_losses
def test_shapes_that_would_broadcast_are_refused(loss) -> None:
    with pytest.raises(ValueError, match=r"reference_logps_GK has shape \(1, 2\), policy_logps_GK has \(3, 2\)"):
        loss(torch.zeros(3, 2), torch.zeros(1, 2), torch.zeros(3, 2), alpha=1.0, beta=1.0)


def test_metrics() -> None:
    """Rewards 1 > .5 > 0, beta 2, log-ratios (1, 3, -1): s = (2, 6, -2); the best beats one of two others."""
    policy = torch.tensor([[1.0, 3.0, -1.0]])
    out = nca_loss(policy, torch.zeros(1, 3), torch.tensor([[1.0, 0.5, 0.0]]), alpha=1.0, beta=2.0)
    assert {name: float(value) for name, value in out.metrics.items()} == {
        "implicit_reward/best": 2.0,
        "implicit_reward/worst": -2.0,
        "implicit_reward/margin": 4.0,
        "implicit_reward/accuracy": 0.5,
        "logratio/best": 1.0,
        "logratio/worst": -1.0,
    }
