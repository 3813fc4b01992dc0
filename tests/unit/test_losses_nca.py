"""NCA and InfoNCA against hand-derived values, properties, and the float64 fixtures of the papers' equations."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from rayalign.losses import info_nca_loss, nca_loss

FIXTURES = Path(__file__).parents[3] / "shared" / "fixtures" / "methods.json"
needs_fixtures = pytest.mark.skipif(
    not FIXTURES.exists(), reason="shared/fixtures/methods.json is not beside the project"
)

TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-5}


def fixture_cases(kind: str) -> list[dict]:
    return json.loads(FIXTURES.read_text())[kind] if FIXTURES.exists() else []


def tensors(case: dict, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    policy = torch.tensor(case["policy_logps"], dtype=dtype, requires_grad=True)
    return policy, torch.tensor(case["ref_logps"], dtype=dtype), torch.tensor(case["rewards"], dtype=dtype)


def exact_in(dtype: torch.dtype, case: dict) -> dict:
    """The case with log-probs as the dtype can hold them as differences: large sums lose digits before any loss."""
    if dtype == torch.float64:
        return case
    differences = [
        [p - r for p, r in zip(ps, rs, strict=True)]
        for ps, rs in zip(case["policy_logps"], case["ref_logps"], strict=True)
    ]
    return {**case, "policy_logps": differences, "ref_logps": [[0.0] * len(row) for row in differences]}


@needs_fixtures
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("case", fixture_cases("nca_cases"), ids=lambda case: case["id"])
@pytest.mark.parametrize(("loss", "key"), [(nca_loss, "nca_paper"), (info_nca_loss, "infonca")])
def test_fixture_losses_and_gradients(case: dict, dtype: torch.dtype, loss, key: str) -> None:
    """`grad` in the fixtures is the gradient of the batch mean with respect to the policy's log-probs."""
    policy, reference, rewards = tensors(exact_in(dtype, case), dtype)
    out = loss(policy, reference, rewards, alpha=case["alpha"], beta=case["beta"])
    expected = case["expected"][key]
    tolerance = {"rtol": TOLERANCES[dtype], "atol": TOLERANCES[dtype]}
    torch.testing.assert_close(out.per_group, torch.tensor(expected["per_example"], dtype=dtype), **tolerance)
    torch.testing.assert_close(out.loss, torch.tensor(expected["mean"], dtype=dtype), **tolerance)
    (grad,) = torch.autograd.grad(out.loss, policy)
    torch.testing.assert_close(grad, torch.tensor(expected["grad"], dtype=dtype), **tolerance)


@needs_fixtures
@pytest.mark.parametrize("case", fixture_cases("ragged_cases"), ids=lambda case: case["id"])
def test_fixture_ragged_groups(case: dict) -> None:
    policy, reference, rewards = tensors(case, torch.float64)
    mask = torch.tensor(case["mask"])
    settings = {"alpha": case["alpha"], "beta": case["beta"], "mask_GK": mask}
    expected = case["expected"]
    nca = nca_loss(policy, reference, rewards, **settings)
    info = info_nca_loss(policy, reference, rewards, **settings)
    torch.testing.assert_close(nca.per_group.tolist(), expected["nca_paper_per_example"], rtol=1e-10, atol=0)
    torch.testing.assert_close(info.per_group.tolist(), expected["infonca_per_example"], rtol=1e-10, atol=0)
    assert float(nca.loss.detach()) == pytest.approx(expected["nca_paper_mean"], rel=1e-10)


@pytest.mark.parametrize("loss", [nca_loss, info_nca_loss])
def test_ragged_equals_one_group_at_a_time_and_pads_get_no_gradient(loss) -> None:
    generator = torch.Generator().manual_seed(0)
    policy = torch.randn(3, 4, generator=generator, dtype=torch.float64).requires_grad_()
    reference, rewards = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]], dtype=torch.bool)
    reference = reference.masked_fill(~mask, math.nan)
    out = loss(policy, reference, rewards, alpha=0.5, beta=0.3, mask_GK=mask)
    (grad,) = torch.autograd.grad(out.loss, policy)
    assert torch.equal(grad[~mask], torch.zeros(3, dtype=torch.float64))
    for group, k in enumerate([4, 2, 3]):
        row = (slice(group, group + 1), slice(0, k))
        alone = loss(policy[row], reference[row], rewards[row], alpha=0.5, beta=0.3)
        torch.testing.assert_close(alone.per_group[0], out.per_group[group])


def test_start_of_training() -> None:
    """policy == reference: every s is 0, softmax is 1/K and sigma is 1/2, so InfoNCA = ln K and NCA = 2 ln 2."""
    logps = torch.randn(5, 7, dtype=torch.float64)
    rewards = torch.randn(5, 7, dtype=torch.float64)
    assert float(info_nca_loss(logps, logps, rewards, alpha=0.1, beta=0.3).loss) == pytest.approx(math.log(7))
    assert float(nca_loss(logps, logps, rewards, alpha=0.1, beta=0.3).loss) == pytest.approx(2 * math.log(2))


def test_equal_rewards_prefer_nobody() -> None:
    """w = 1/K: at s = 0 InfoNCA's gradient 1/K - w and NCA's half of it vanish for every response."""
    policy = torch.zeros(1, 4, dtype=torch.float64, requires_grad=True)
    for loss in (nca_loss, info_nca_loss):
        out = loss(policy, policy.detach(), torch.full((1, 4), 3.0, dtype=torch.float64), alpha=1e-4, beta=1.0)
        (grad,) = torch.autograd.grad(out.loss, policy)
        torch.testing.assert_close(grad, torch.zeros_like(grad))


def test_top_tie_at_tiny_alpha_splits_the_mass() -> None:
    """r / 1e-30 overflows float32; two equal best responses share the label: loss = -1/2 (lsm0 + lsm1)."""
    policy = torch.tensor([[1.0, 0.0, 0.5]])
    out = info_nca_loss(policy, torch.zeros(1, 3), torch.tensor([[9.0, 9.0, 1.0]]), alpha=1e-30, beta=1.0)
    log_softmax = torch.log_softmax(policy[0], dim=0)
    torch.testing.assert_close(out.loss, -(log_softmax[0] + log_softmax[1]) / 2)


def test_one_response() -> None:
    """K = 1: InfoNCA is 0 with zero gradient; NCA is -log sigma(s) - log sigma(-s), a pure anchor at s = 0."""
    policy = torch.tensor([[0.7]], dtype=torch.float64, requires_grad=True)
    zero = torch.zeros(1, 1, dtype=torch.float64)
    info = info_nca_loss(policy, zero, zero, alpha=1.0, beta=1.0)
    assert float(info.loss.detach()) == 0.0
    assert float(torch.autograd.grad(info.loss, policy)[0]) == 0.0
    expected = -math.log(1 / (1 + math.exp(-0.7))) - math.log(1 / (1 + math.exp(0.7)))
    assert float(nca_loss(policy, zero, zero, alpha=1.0, beta=1.0).loss.detach()) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("loss", [nca_loss, info_nca_loss])
def test_extreme_scores_stay_finite(loss) -> None:
    policy = torch.tensor([[900.0, -900.0, 0.0]], requires_grad=True)
    out = loss(policy, torch.zeros(1, 3), torch.tensor([[0.0, 1.0, 0.5]]), alpha=0.1, beta=1.0)
    (grad,) = torch.autograd.grad(out.loss, policy)
    assert torch.isfinite(out.loss) and torch.isfinite(grad).all()


@pytest.mark.parametrize("loss", [nca_loss, info_nca_loss])
def test_permutation_and_shifts(loss) -> None:
    """Order does not matter; a constant added to all rewards changes nothing; one added to all s only changes NCA."""
    generator = torch.Generator().manual_seed(1)
    policy, reference, rewards = torch.randn(3, 2, 5, generator=generator, dtype=torch.float64)
    settings = {"alpha": 0.5, "beta": 0.7}
    base = loss(policy, reference, rewards, **settings).per_group
    order = torch.tensor([3, 1, 4, 0, 2])
    torch.testing.assert_close(
        loss(policy[:, order], reference[:, order], rewards[:, order], **settings).per_group, base
    )
    torch.testing.assert_close(loss(policy, reference, rewards + 100, **settings).per_group, base)
    shifted = loss(policy + 1, reference, rewards, **settings).per_group
    assert torch.allclose(shifted, base) == (loss is info_nca_loss)


@pytest.mark.parametrize("loss", [nca_loss, info_nca_loss])
@pytest.mark.parametrize("reward", [math.nan, math.inf])
def test_bad_reward_names_its_row(loss, reward: float) -> None:
    rewards = torch.tensor([[0.0, 1.0], [0.0, reward]])
    with pytest.raises(ValueError, match="group 1, response 1"):
        loss(torch.zeros(2, 2), torch.zeros(2, 2), rewards, alpha=1.0, beta=1.0)


def test_minus_infinity_is_weight_zero_unless_all_are() -> None:
    """-inf leaves InfoNCA with the one-hot label on the other response: -log softmax(0, 0)_1 = ln 2."""
    zeros = torch.zeros(1, 2)
    out = info_nca_loss(zeros, zeros, torch.tensor([[-math.inf, 1.0]]), alpha=1.0, beta=1.0)
    assert float(out.loss) == pytest.approx(math.log(2))
    with pytest.raises(ValueError, match="group 0 has no response with a finite reward"):
        nca_loss(zeros, zeros, torch.full((1, 2), -math.inf), alpha=1.0, beta=1.0)


@pytest.mark.parametrize(("name", "value"), [("alpha", 0.0), ("alpha", -1.0), ("alpha", math.nan), ("beta", 0.0)])
def test_bad_settings_are_refused(name: str, value: float) -> None:
    zeros = torch.zeros(1, 2)
    with pytest.raises(ValueError, match=name):
        nca_loss(zeros, zeros, zeros, **{"alpha": 1.0, "beta": 1.0, name: value})


def test_implicit_reward_metrics() -> None:
    """Rewards 1 > .5 > 0, beta 2, log-ratios (1, 3, -1): s = (2, 6, -2); the best beats one of two others."""
    policy = torch.tensor([[1.0, 3.0, -1.0]])
    out = nca_loss(policy, torch.zeros(1, 3), torch.tensor([[1.0, 0.5, 0.0]]), alpha=1.0, beta=2.0)
    assert {name.split("/")[1]: float(value) for name, value in out.metrics.items()} == {
        "best": 2.0, "worst": -2.0, "margin": 4.0, "accuracy": 0.5,
    }  # fmt: skip
