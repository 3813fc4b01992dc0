"""What the papers claim of the optimum and of the way there, on policies small enough to know the answer.

A number in a test's name is that of the edge case it covers in the list of METHODS section 4.
"""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from rayalign.losses import dpo_loss, info_nca_loss, nca_loss, pairwise_nca_loss

REWARDS = [1.0, 0.2, -0.5, 0.9, 0.0, -1.0]
UNIFORM = [1, 1, 1, 1, 1, 1]
SKEWED = [1, 4, 2, 1, 7, 5]


def kl(p: torch.Tensor, q: torch.Tensor) -> float:
    return float((p * (p.log() - q.log())).sum())


def train_tabular(loss, counts: list[int], alpha: float, steps: int = 1000) -> tuple[torch.Tensor, torch.Tensor]:
    """(policy at convergence, mu * exp(r / alpha) / Z) of six responses, the policy a softmax of free logits.

    The group is the population: each response stands in it in proportion to mu, so that 1/K sums are expectations
    over mu and the soft labels of a response's copies add up to the target. A sample of K responses would put the
    optimum at its own soft labels instead.
    """
    which = torch.tensor([i for i, count in enumerate(counts) for _ in range(count)])
    mu = torch.tensor(counts, dtype=torch.float64) / sum(counts)
    rewards = torch.tensor(REWARDS, dtype=torch.float64)
    target = torch.softmax(mu.log() + rewards / alpha, 0)
    logits = mu.log().clone().requires_grad_()
    for _ in range(steps):
        policy_logps = torch.log_softmax(logits, 0)[which][None]
        out = loss(policy_logps, mu.log()[which][None], rewards[which][None], alpha=alpha, beta=1.0)
        (grad,) = torch.autograd.grad(out.loss, logits)
        with torch.no_grad():
            logits -= 3.0 * grad
    return torch.softmax(logits.detach(), 0), target


@pytest.mark.parametrize("loss", [nca_loss, info_nca_loss])
@pytest.mark.parametrize("counts", [UNIFORM, SKEWED], ids=["uniform", "skewed"])
@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_the_optimum_is_the_target_policy(loss, counts: list[int], alpha: float) -> None:
    """beta = 1: both reach mu exp(r/alpha)/Z, NCA because log(target/mu) is its score s*, InfoNCA up to a constant."""
    start = torch.tensor(counts, dtype=torch.float64) / sum(counts)
    policy, target = train_tabular(loss, counts, alpha)
    assert kl(target, start) > 0.1
    assert kl(target, policy) < 1e-5


def test_nca_fixes_the_level_of_free_scores_and_info_nca_does_not() -> None:
    """Free scores, one prompt: NCA's only stationary point is s = log(K w); InfoNCA's is any log w + c."""
    rewards = torch.tensor([REWARDS], dtype=torch.float64)
    optimum = math.log(6) + torch.log_softmax(rewards / 0.5, -1)
    for shift in (0.0, 1.0):
        scores = (optimum + shift).requires_grad_()
        zeros = torch.zeros_like(scores)
        nca, info = (f(scores, zeros, rewards, alpha=0.5, beta=1.0).loss for f in (nca_loss, info_nca_loss))
        grads = [torch.autograd.grad(out, scores)[0].abs().max() for out in (nca, info)]
        assert float(grads[1]) < 1e-12
        assert (float(grads[0]) < 1e-12) == (shift == 0.0)
    # Raised iff w > 1/K.
    above = torch.softmax(rewards / 0.5, -1) > 1 / 6
    assert torch.equal(optimum > 0, above) and above.any() and not above.all()


def toy_chosen_scores(loss, steps: int) -> list[float]:
    """s_w after each step of gradient descent at rate 0.1 on s_w = a, s_l = 1.5 a + 0.5 b, from 0; [0] is the start."""
    theta = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    to_scores = torch.tensor([[1.0, 0.0], [1.5, 0.5]], dtype=torch.float64)
    reference = torch.zeros(1, dtype=torch.float64)
    scores = [0.0]
    for _ in range(steps):
        s_w, s_l = (to_scores @ theta).split(1)
        (grad,) = torch.autograd.grad(loss(s_w, s_l, reference, reference, beta=1.0).loss, theta)
        with torch.no_grad():
            theta -= 0.1 * grad
        scores.append(float(theta.detach()[0]))
    return scores


def test_edge_14_dpo_drags_the_chosen_response_down() -> None:
    """Raising the margin pays off faster along the rejected response's own direction: s_w falls and keeps falling."""
    s_w = toy_chosen_scores(dpo_loss, 2000)
    digits = {10: -0.2364, 50: -0.9441, 100: -1.508, 200: -2.1814, 500: -3.1324, 2000: -4.5698}
    assert {step: s_w[step] for step in digits} == pytest.approx(digits, abs=5e-5)
    assert s_w[200] < -2
    assert all(later < earlier for earlier, later in pairwise(s_w))


def test_edge_14_nca_brings_the_chosen_response_back_above_its_start() -> None:
    """The noise term anchors it: a dip to -0.1398 at step 34, then up towards ln 2."""
    s_w = toy_chosen_scores(pairwise_nca_loss, 2000)
    digits = {10: -0.0896, 34: -0.1398, 50: -0.1311, 100: -0.0724, 200: 0.0391, 500: 0.2636, 2000: 0.5704}
    assert {step: s_w[step] for step in digits} == pytest.approx(digits, abs=5e-5)
    assert min(range(len(s_w)), key=s_w.__getitem__) == 34
    assert 0 < s_w[200] < s_w[2000] < math.log(2)
