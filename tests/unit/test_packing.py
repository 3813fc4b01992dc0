"""Packed log-probabilities against full logits of transformers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from rayalign.config.model import LoraSection, ModelSection
from rayalign.errors import DataError
from rayalign.learning.model import Policy, build_policy
from rayalign.learning.packing import Batch, collate_padded, split_per_row
from rayalign.learning.streams import pad
from rayalign.losses.logprobs import token_logps

torch.set_num_threads(1)

Row = tuple[list[int], list[int]]
ROWS: list[Row] = [
    ([1, 2, 3], [4, 5]),
    ([9], [8, 7, 6, 5, 4, 3]),
    ([10, 11, 12, 13, 14, 15, 16], [17]),
    ([20, 21], []),
    ([0, 0, 30], [0, 31, 0]),
]
"""Ragged on both sides; token 0, which is also the padding, stands inside prompts and responses."""


@pytest.fixture(scope="module", params=["llama", "qwen"])
def folder(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(f"{request.param}_folder")


def policy_at(folder: Path) -> Policy:
    """Its adapter is zero, so it equals the base."""
    policy = build_policy(folder, ModelSection(base=str(folder), lora=LoraSection(r=8, alpha=16)))
    policy.reset_adapter(0)
    return policy


@torch.no_grad()
def reference_logps(folder: Path, row: Row) -> list[float]:
    """One row alone, all logits: log softmax at position t, read at the token of position t + 1."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    prompt, response = row
    ids = torch.tensor([prompt + response])
    logps_TV = model(input_ids=ids).logits[0].log_softmax(-1)
    return [float(logps_TV[len(prompt) + i - 1, token]) for i, token in enumerate(response)]


@torch.no_grad()
def logps_of(policy: Policy, rows: list[Row]) -> list[list[float]]:
    batch = collate_padded(rows)
    return split_per_row(policy(batch), batch)


def assert_close(ours: list[list[float]], theirs: list[list[float]], tolerance: float = 1e-5) -> None:
    assert [len(row) for row in ours] == [len(row) for row in theirs]
    for our_row, their_row in zip(ours, theirs, strict=True):
        assert our_row == pytest.approx(their_row, abs=tolerance)


def test_equals_full_logits(folder: Path) -> None:
    expected = [reference_logps(folder, row) for row in ROWS]
    spread = [logp for row in expected for logp in row]
    assert max(spread) - min(spread) > 1, "a nearly uniform model could not tell positions apart"
    assert_close(logps_of(policy_at(folder), ROWS), expected)


def test_independent_of_padding_and_neighbours(folder: Path) -> None:
    policy = policy_at(folder)
    alone = [logps_of(policy, [row])[0] for row in ROWS]
    assert_close(logps_of(policy, ROWS), alone)
    assert_close(logps_of(policy, ROWS[::-1])[::-1], alone)
    assert_close(logps_of(policy, [*ROWS, ([1] * 20, [2] * 20)])[:-1], alone)


def test_padding_has_no_attention_and_no_target() -> None:
    """Widths 3 and 4 -> T = 4. Row 0: 7 is predicted at position 1. Row 1: 5, 6, 7 at 0, 1, 2, plus 4 for the row."""
    batch = collate_padded([([8, 9], [7]), ([4], [5, 6, 7])])
    assert batch.rows == 2
    assert batch.input_ids_BT.tolist() == [[8, 9, 7, 0], [4, 5, 6, 7]]
    assert batch.attention_mask_BT.tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert batch.predicting_N.tolist() == [1, 4, 5, 6]
    assert batch.targets_N.tolist() == [7, 5, 6, 7]
    assert batch.lengths == (1, 3)


def test_sums_and_splits_by_hand() -> None:
    """Rows of 2, 0 and 3 response tokens with values 1 2 | | 4 8 16: sums 3, 0, 28."""
    batch = collate_padded([([1], [2, 3]), ([1, 1], []), ([1], [4, 5, 6])])
    values = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0])
    assert [row.tolist() for row in split_per_row(values, batch)] == [[1.0, 2.0], [], [4.0, 8.0, 16.0]]
    assert sums(values, batch).tolist() == [3.0, 0.0, 28.0]


def sums(values: torch.Tensor, batch: Batch) -> torch.Tensor:
    return torch.stack([row.sum() for row in split_per_row(values, batch)])


def trained_grads(policy: Policy) -> list[torch.Tensor]:
    grads = [parameter.grad for parameter in policy.trainable()]
    assert all(grad is not None for grad in grads)
    return [grad for grad in grads if grad is not None]


def test_an_empty_response_sums_to_zero_and_leaves_the_gradient_alone(llama_folder: Path) -> None:
    with_empty, without = policy_at(llama_folder), policy_at(llama_folder)
    batch = collate_padded([([20, 21], []), ([1, 2, 3], [4, 5])])
    totals = sums(with_empty(batch), batch)
    assert totals.tolist()[0] == 0.0
    totals.sum().backward()
    without(collate_padded([([1, 2, 3], [4, 5])])).sum().backward()
    for ours, theirs in zip(trained_grads(with_empty), trained_grads(without), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    assert any(bool(grad.any()) for grad in trained_grads(with_empty))


def test_only_empty_responses_give_a_zero_gradient(llama_folder: Path) -> None:
    """The sum must stay in the graph: a loss without one cannot be sent backward."""
    policy = policy_at(llama_folder)
    batch = collate_padded([([20, 21], []), ([1], [])])
    logps = policy(batch)
    assert logps.dtype == torch.float32
    totals = sums(logps, batch)
    assert totals.tolist() == [0.0, 0.0]
    totals.sum().backward()
    assert not any(bool(grad.any()) for grad in trained_grads(policy))


class RecordingHead(torch.nn.Linear):
    """Remembers how many positions it made logits for at a time."""

    def __init__(self) -> None:
        super().__init__(6, 11, bias=False, dtype=torch.float64)
        self.positions: list[int] = []

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        self.positions.append(len(hidden))
        return super().forward(hidden)


def hidden_and_targets() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = 3 * torch.randn(10, 6, generator=generator, dtype=torch.float64)
    return hidden.requires_grad_(), torch.randint(11, (10,), generator=generator)


@pytest.mark.parametrize("chunk_tokens", [1, 3, 5, 9, 10, 11])
def test_chunks_change_neither_values_nor_gradients(chunk_tokens: int) -> None:
    torch.manual_seed(0)
    head = RecordingHead()
    hidden, targets = hidden_and_targets()
    weights = torch.linspace(-1, 2, 10)
    expected = head(hidden).float().log_softmax(-1).gather(-1, targets[:, None])[:, 0]
    expected_grads = torch.autograd.grad((expected * weights).sum(), [hidden, head.weight])
    logps = token_logps(hidden, targets, head, chunk_tokens=chunk_tokens)
    assert logps.dtype == torch.float32
    torch.testing.assert_close(logps, expected, rtol=0, atol=1e-5)
    grads = torch.autograd.grad((logps * weights).sum(), [hidden, head.weight])
    torch.testing.assert_close(grads, expected_grads, rtol=0, atol=1e-5)


def test_chunks_bound_the_logits_and_are_remade_in_backward() -> None:
    """10 positions in chunks of 4: 4 + 4 + 2 forward, and the same three again, in any order, in backward."""
    head = RecordingHead()
    hidden, targets = hidden_and_targets()
    logps = token_logps(hidden, targets, head, chunk_tokens=4)
    assert head.positions == [4, 4, 2]
    logps.sum().backward()
    assert sorted(head.positions[3:]) == [2, 4, 4]
    head.positions.clear()
    with torch.no_grad():
        token_logps(hidden, targets, head, chunk_tokens=4)
    assert head.positions == [4, 4, 2]


def test_pad_ragged_rows_and_its_gradient() -> None:
    """Rows of 2, 3 and 1 -> [3, 3]; the gradient of slot (g, k) comes back to that value alone."""
    values = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], dtype=torch.float64, requires_grad=True)
    padded, mask = pad(values.split([2, 3, 1]))
    assert padded.tolist() == [[1, 2, 0], [3, 4, 5], [6, 0, 0]]
    assert mask.tolist() == [[True, True, False], [True, True, True], [True, False, False]]
    (grad,) = torch.autograd.grad((padded * torch.arange(9.0).view(3, 3)).sum(), values)
    assert grad.tolist() == [0, 1, 3, 4, 5, 6]
    assert (padded.dtype, mask.dtype) == (torch.float64, torch.bool)


@pytest.mark.parametrize("response", [[], [5]])
def test_a_prompt_of_zero_tokens_is_refused(response: list[int]) -> None:
    with pytest.raises(DataError, match="row 1 has a prompt of 0 tokens"):
        collate_padded([([1], [2]), ([], response)])


def test_to_moves_every_tensor() -> None:
    moved = collate_padded(ROWS).to("meta")
    tensors = [getattr(moved, name) for name in Batch.__slots__]
    devices = {tensor.device.type for tensor in tensors if isinstance(tensor, torch.Tensor)}
    assert devices == {"meta"}
