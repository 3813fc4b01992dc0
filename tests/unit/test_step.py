"""One optimizer step: learning rate, loss over micro-batches, and the checks before the update."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from rayalign.config.base import RoundSchedule
from rayalign.config.model import LoraSection, ModelSection
from rayalign.config.objective import InfoNCAObjective, NCAObjective
from rayalign.config.training import TrainingSection
from rayalign.learning.model import Policy, build_policy
from rayalign.learning.objective import count_units, objective_loss
from rayalign.learning.packing import Batch, collate_packed, collate_padded, packed_tokens, padded_tokens
from rayalign.learning.step import (
    FiniteWatch,
    References,
    StepContext,
    empty_loss,
    group_tokens,
    learning_rate,
    micro_batch_loss,
    reference_sums,
    rows_of,
    token_logps_of,
)
from rayalign.learning.streams import GroupLogps, streams_of
from rayalign.records import TrainingGroup

torch.set_num_threads(1)

NCA = NCAObjective(type="nca", alpha=0.5, beta=0.3)
INFO = InfoNCAObjective(type="info_nca", alpha=0.2, beta=0.7)


class Bigrams(torch.nn.Module):
    """A policy in float64 whose next token depends on the last one alone; remembers the size of its batches."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.logits_VV = torch.nn.Parameter(torch.randn(16, 16, generator=generator, dtype=torch.float64))
        self.shapes: list[tuple[int, int]] = []

    def forward(self, batch: Batch) -> torch.Tensor:
        rows, width = batch.input_ids_BT.shape
        self.shapes.append((rows, width))
        last_N = batch.input_ids_BT.flatten()[batch.predicting_N]
        return self.logits_VV.log_softmax(-1)[last_N, batch.targets_N]


def group(prompt: list[int], responses: list[list[int]], rewards: list[float]) -> TrainingGroup:
    zeros = [[0.0] * len(response) for response in responses]
    return TrainingGroup("p", prompt, list(range(len(responses))), responses, zeros, rewards)


GROUPS = [
    group([1, 2, 3], [[4, 5], [6], [7, 8, 9, 10]], [1.0, 0.0, 0.5]),
    group([4], [[1, 2, 3, 4, 5], [6, 7]], [0.25, 0.75]),
    group([9, 8, 7, 6, 5, 4], [[1], [2], [3, 3], [4, 4, 4], [5]], [0.0, 1.0, 0.3, -1.0, 2.0]),
    group([2, 2], [[11, 12], [12, 11]], [1.0, 1.0]),
    group([3, 1], [[13], [14, 15], [0, 0, 0]], [0.2, 0.1, 0.0]),
]
REFERENCES = [{("response", k): -3.0 - i - k for k in range(len(g.rewards))} for i, g in enumerate(GROUPS)]


def training(rate: float | RoundSchedule = 1.0, round_decay: float = 1.0, **schedule: Any) -> TrainingSection:
    shape = {"round_decay": round_decay, **schedule}
    return TrainingSection.model_validate({"learning_rate": rate, "schedule": shape})


def rates(section: TrainingSection, steps: int, round_index: int = 1) -> list[float]:
    """Of all steps and of the one after the last."""
    return [learning_rate(section, round_index, step, steps) for step in range(steps + 1)]


def test_linear() -> None:
    """Four steps: 1 - 0/4, 1 - 1/4, 1 - 2/4, 1 - 3/4; zero comes after the last, so that every step counts."""
    assert rates(training(type="linear"), 4) == [1.0, 0.75, 0.5, 0.25, 0.0]


def test_cosine() -> None:
    """(1 + cos(pi k / 4)) / 2 with cos 45 degrees = sqrt(1/2): 1, 0.853553, 1/2, 0.146447, 0."""
    assert rates(training(type="cosine"), 4) == pytest.approx([1.0, 0.853553, 0.5, 0.146447, 0.0], abs=1e-6)


def test_constant() -> None:
    assert rates(training(0.5, type="constant"), 3) == [0.5] * 4


def test_one_step_runs_at_the_full_rate() -> None:
    for kind in ("linear", "cosine", "constant"):
        assert rates(training(type=kind), 1)[0] == 1.0


def test_warmup_then_shape() -> None:
    """Warm-up over half of 4 steps: 1/2, 2/2, then linear from 1 over the other 2: 1, 1/2, 0.

    A share that is no whole number rounds up: 0.3 of 4 steps = 1.2 -> 2.
    """
    assert rates(training(type="linear", warmup=0.5), 4) == [0.5, 1.0, 1.0, 0.5, 0.0]
    assert rates(training(type="linear", warmup=0.3), 4) == [0.5, 1.0, 1.0, 0.5, 0.0]
    assert rates(training(type="constant", warmup=0.75), 4) == pytest.approx([1 / 3, 2 / 3, 1.0, 1.0, 1.0])
    assert rates(training(type="cosine", warmup=0.5), 4) == pytest.approx([0.5, 1.0, 1.0, 0.5, 0.0])


def test_warmup_over_every_step() -> None:
    """0.9 of 4 steps = 3.6 -> 4: no step is left for the shape, and none divides by zero."""
    assert rates(training(type="linear", warmup=0.9), 4)[:4] == [0.25, 0.5, 0.75, 1.0]


def test_round_decay_counts_from_the_first_round() -> None:
    """0.8^0, 0.8^1, 0.8^2."""
    section = training(2.0, round_decay=0.8)
    assert [learning_rate(section, r, 0, 4) for r in (1, 2, 3)] == pytest.approx([2.0, 1.6, 1.28])


def test_schedule_over_rounds_times_decay_times_shape() -> None:
    """From 0.3 to 0.1 over 3 rounds: 0.3, 0.2, 0.1, 0.1; times 0.5^(round - 1); the second of 4 steps times 3/4.

    0.3 x 1 x 0.75 = 0.225; 0.2 x 0.5 x 0.75 = 0.075; 0.1 x 0.25 x 0.75 = 0.01875; 0.1 x 0.125 x 0.75 = 0.009375.
    """
    section = training(RoundSchedule(start=0.3, end=0.1, rounds=3), round_decay=0.5)
    assert [learning_rate(section, r, 1, 4) for r in (1, 2, 3, 4)] == pytest.approx([0.225, 0.075, 0.01875, 0.009375])


def test_group_tokens() -> None:
    """Three responses of up to 4 tokens with a prompt of 5: 3 x (5 + 4) = 27. Without responses nothing."""
    assert group_tokens(streams_of(group([1] * 5, [[2] * 2, [2] * 4, [2]], [0.0] * 3), {"response"})) == 27
    assert group_tokens([]) == 0


def test_rows_carry_the_prompt() -> None:
    assert rows_of(streams_of(GROUPS[1], {"response"})) == [([4], [1, 2, 3, 4, 5]), ([4], [6, 7])]


def gradient(policy: torch.nn.Module, parts: Sequence[Sequence[int]], objectives: Sequence[Any]) -> list[torch.Tensor]:
    """Gradient of the mean over all groups, accumulated over micro-batches of group positions."""
    policy.zero_grad()
    units = count_units(objectives, [GROUPS[i] for part in parts for i in part])
    for part in parts:
        loss, _ = micro_batch_loss(
            policy, [GROUPS[i] for i in part], [REFERENCES[i] for i in part], StepContext(objectives, 1), units
        )
        loss.backward()
    return [p.grad.clone() for p in policy.parameters() if p.grad is not None]


SPLITS = [
    [[0], [1], [2], [3], [4]],
    [[2, 0], [4, 3, 1]],
    [[4, 3, 2, 1], [0]],
]


@pytest.mark.parametrize("objectives", [[NCA], [INFO], [NCA, INFO]], ids=["nca", "info_nca", "both"])
@pytest.mark.parametrize("parts", SPLITS)
def test_micro_batches_add_up_to_one_big_batch(parts: list[list[int]], objectives: list[Any]) -> None:
    """Ragged groups in unequal parts. A mean of the parts' means would weigh the groups of a small part more."""
    policy = Bigrams()
    whole = gradient(policy, [[0, 1, 2, 3, 4]], objectives)
    assert float(whole[0].abs().max()) > 1e-2
    torch.testing.assert_close(gradient(policy, parts, objectives), whole, rtol=0, atol=1e-12)


def lora_policy(folder: Path) -> Policy:
    policy = build_policy(folder, ModelSection(base=str(folder), lora=LoraSection(r=8, alpha=16)))
    policy.reset_adapter(0)
    return policy


def test_micro_batches_add_up_for_a_real_model(llama_folder: Path) -> None:
    """In float32; gradients here are around 0.1, and B's gradient is that of a fresh adapter."""
    policy = lora_policy(llama_folder)
    whole = gradient(policy, [[0, 1, 2, 3, 4]], [NCA])
    assert max(float(grad.abs().max()) for grad in whole) > 1e-3
    for parts in SPLITS:
        torch.testing.assert_close(gradient(policy, parts, [NCA]), whole, rtol=1e-4, atol=1e-6)


UNITS = {"nca": 5, "info_nca": 5}


def start_logps(policy: torch.nn.Module) -> list[References]:
    """Summed log-probabilities of each group's responses: the reference of the round's start."""
    return list(
        reference_sums(lambda rows: token_logps_of(policy, rows, "cpu", 1000), dict(enumerate(GROUPS)), [NCA]).values()
    )


def test_losses_at_the_start_of_a_round(llama_folder: Path) -> None:
    """Policy = reference, so every s is 0. NCA: -sum w ln(1/2) - (1/K) sum ln(1/2) = 2 ln 2 for any rewards.

    InfoNCA: the softmax is uniform, so ln K with K = 3, 2, 5, 2, 3. Weights 2 and 0.5 add up.
    """
    policy = lora_policy(llama_folder)
    objectives = [NCA.model_copy(update={"weight": 2.0}), INFO.model_copy(update={"weight": 0.5})]
    loss, means = micro_batch_loss(policy, GROUPS, start_logps(policy), StepContext(objectives, 1), UNITS)
    metrics = means.values()
    assert float(loss.detach()) == pytest.approx(2 * 2 * math.log(2) + 0.5 * math.log(180) / 5, abs=1e-4)
    assert metrics["loss/nca"] == pytest.approx(2 * math.log(2), abs=1e-4)
    assert metrics["loss/info_nca"] == pytest.approx(math.log(3 * 2 * 5 * 2 * 3) / 5, abs=1e-4)


def test_one_step_decreases_the_nca_loss(llama_folder: Path) -> None:
    policy = lora_policy(llama_folder)
    references, context = start_logps(policy), StepContext([NCA], 1)
    optimizer = torch.optim.AdamW(policy.trainable(), lr=3e-3, weight_decay=0.0)
    watch = FiniteWatch(policy.trainable())
    loss, before = micro_batch_loss(policy, GROUPS, references, context, UNITS)
    loss.backward()
    assert watch.take()
    optimizer.step()
    with torch.no_grad():
        _, after = micro_batch_loss(policy, GROUPS, references, context, UNITS)
    assert before.values()["loss/nca"] == pytest.approx(2 * math.log(2), abs=1e-4)
    assert after.values()["loss/nca"] < before.values()["loss/nca"] - 1e-3
    assert after.values()["implicit_reward/margin"] > 0


def test_objectives_with_weights_add_up() -> None:
    """2 x NCA + 0.5 x InfoNCA, in loss and gradient, each with its own alpha and beta."""
    policy = Bigrams()
    everything = [[0, 1, 2, 3, 4]]
    both = gradient(
        policy, everything, [NCA.model_copy(update={"weight": 2.0}), INFO.model_copy(update={"weight": 0.5})]
    )
    (nca,), (info,) = gradient(policy, everything, [NCA]), gradient(policy, everything, [INFO])
    torch.testing.assert_close(both[0], 2 * nca + 0.5 * info, rtol=0, atol=1e-12)
    assert float((nca - info).abs().max()) > 1e-3


def test_scheduled_weights_alphas_and_betas_follow_the_round() -> None:
    """Each from 1 to 0.5 over two rounds; in round 2 and later 0.5.

    In round 2 a group of log-ratios 0, 1 and rewards 0, 1 has s = (0, 0.5), w = softmax(0, 2) = (0.119203, 0.880797).
    InfoNCA: -w1 ln(1 / (1 + e^0.5)) - w2 ln(e^0.5 / (1 + e^0.5)) = ln(1 + e^0.5) - 0.5 w2 = 0.974077 - 0.440399.
    The weight halves it: 0.266839.
    """
    half = RoundSchedule(start=1.0, end=0.5, rounds=2)
    objective = InfoNCAObjective(type="info_nca", alpha=half, beta=half, weight=half)
    logps = {("response", k): torch.tensor([float(k)], dtype=torch.float64) for k in (0, 1)}
    zeros = {key: torch.tensor(0.0, dtype=torch.float64) for key in logps}
    one = GroupLogps(group([1], [[4], [5]], [0.0, 1.0]), logps, zeros)
    for round_index in (2, 3):
        loss, _ = objective_loss([objective], [one], round_index, {"info_nca": 1})
        assert float(loss) == pytest.approx(0.266839, abs=1e-6)


ROWS = [([1, 2, 3], [4, 5]), ([9], [8, 7, 6, 5, 4, 3]), ([10, 11, 12, 13, 14, 15], [1]), ([2, 1], []), ([3], [4, 5])]


@pytest.mark.parametrize("budget", [1, 8, 14, 21, 10_000])
def test_token_logps_keep_the_order_of_rows(budget: int) -> None:
    policy = Bigrams()
    table_VV = policy.logits_VV.detach().log_softmax(-1)
    expected = [[float(table_VV[a, b]) for a, b in zip([p[-1], *r], r, strict=False)] for p, r in ROWS]
    results = token_logps_of(policy, ROWS, "cpu", budget)
    assert [len(row) for row in results] == [2, 6, 1, 0, 2]
    for ours, theirs in zip(results, expected, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-12)
    assert sum(rows for rows, _ in policy.shapes) == len(ROWS)
    assert all(rows == 1 or rows * width <= budget for rows, width in policy.shapes)


def test_token_logps_fill_the_budget() -> None:
    """Widths 2, 3, 5, 7, 7, budget 14: 2 x 3 = 6 fits, 3 x 5 = 15 does not; then 5 with 7: 2 x 7 fits; then 7."""
    policy = Bigrams()
    token_logps_of(policy, ROWS, "cpu", 14)
    assert policy.shapes == [(2, 3), (2, 7), (1, 7)]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("budget", [1, 25, 90])
def test_no_pass_of_the_reference_exceeds_the_budget(packed: bool, budget: int) -> None:
    """However many groups there are: but for a row that is longer alone, or packed the answers to one prompt."""
    rows = [([g % 16] * (1 + g % 7), [k] * (1 + (g + k) % 11)) for g in range(60) for k in range(4)]
    pieces = [rows[i : i + 4] for i in range(0, len(rows), 4)] if packed else [[row] for row in rows]
    count, collate = (packed_tokens, collate_packed) if packed else (padded_tokens, collate_padded)
    policy = Bigrams()
    assert len(token_logps_of(policy, rows, "cpu", budget, collate, packed=packed)) == 240
    largest = max(count(piece) for piece in pieces)
    assert max(height * width for height, width in policy.shapes) <= max(budget, largest)
    assert len(policy.shapes) <= 2 * sum(map(count, pieces)) / budget + 1 or budget < largest


def test_token_logps_of_a_real_model_do_not_depend_on_the_budget(llama_folder: Path) -> None:
    policy = lora_policy(llama_folder)
    alone, together = (token_logps_of(policy, ROWS, "cpu", budget) for budget in (1, 10_000))
    for one, other in zip(alone, together, strict=True):
        assert one == pytest.approx(other, abs=1e-5)


def test_token_logps_of_nothing() -> None:
    assert token_logps_of(Bigrams(), [], "cpu", 10) == []


def test_empty_loss_touches_every_trainable_parameter_with_zero(llama_folder: Path) -> None:
    policy = lora_policy(llama_folder)
    loss = empty_loss(policy, StepContext([NCA], 1))
    assert float(loss.detach()) == 0.0
    loss.backward()
    for parameter in policy.parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and not parameter.grad.any()
        else:
            assert parameter.grad is None


def test_empty_loss_adds_nothing_to_a_gradient() -> None:
    policy = Bigrams()
    (before,) = gradient(policy, [[0, 1]], [NCA])
    empty_loss(policy, StepContext([NCA], 1)).backward()
    assert policy.logits_VV.grad is not None and torch.equal(policy.logits_VV.grad, before)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_finite_watch_sees_every_backward_once(bad: float) -> None:
    """Also where the gradient is summed, freed or turned into another one before the step."""
    parameters = [torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(1))]
    watch = FiniteWatch(parameters)
    (parameters[0] * torch.tensor([1.0, 1e30])).sum().backward()
    assert watch.take()
    (parameters[0] * torch.tensor([1.0, bad])).sum().backward()
    parameters[0].grad = None
    parameters[1].sum().backward()
    assert not watch.take()
    assert watch.take()
