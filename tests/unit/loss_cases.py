"""What the tests of the losses share: the fixtures of the papers' equations, and random groups."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import strategies as st

FIXTURES = Path(__file__).parents[3] / "shared" / "fixtures" / "methods.json"
needs_fixtures = pytest.mark.skipif(
    not FIXTURES.exists(), reason="shared/fixtures/methods.json is not beside the project"
)

TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-5}

LOGPS = st.floats(-60, 0, width=32)
REWARDS = st.integers(-4, 4)


def fixture_cases(kind: str) -> list[dict]:
    return json.loads(FIXTURES.read_text())[kind] if FIXTURES.exists() else []


def exact_in(dtype: torch.dtype, case: dict) -> dict:
    """The case with log-probs as the dtype can hold them as differences: large sums lose digits before any loss."""
    if dtype == torch.float64:
        return case
    differences = [
        [p - r for p, r in zip(ps, rs, strict=True)]
        for ps, rs in zip(case["policy_logps"], case["ref_logps"], strict=True)
    ]
    return {**case, "policy_logps": differences, "ref_logps": [[0.0] * len(row) for row in differences]}


def assert_equals(actual: torch.Tensor, expected: list | float) -> None:
    """Relative tolerance of the dtype; the absolute one covers zeros and sums of cancelling terms of about 1."""
    tolerance = TOLERANCES[actual.dtype]
    torch.testing.assert_close(
        actual.detach(), torch.tensor(expected, dtype=actual.dtype), rtol=tolerance, atol=tolerance / 10
    )


def assert_grad_equals(loss: torch.Tensor, inputs: torch.Tensor, expected: torch.Tensor | list) -> None:
    """The gradient of the loss with respect to the inputs."""
    (grad,) = torch.autograd.grad(loss, inputs, retain_graph=True)
    tolerance = TOLERANCES[grad.dtype]
    expected = torch.as_tensor(expected, dtype=grad.dtype)
    torch.testing.assert_close(grad, expected, rtol=tolerance, atol=tolerance / 10)


def leaf(values: list) -> torch.Tensor:
    """A float64 tensor to differentiate with respect to."""
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def columns(rows: list[tuple[float, ...]]) -> list[torch.Tensor]:
    """One float64 tensor per column."""
    return [torch.tensor(column, dtype=torch.float64) for column in zip(*rows, strict=True)]


@st.composite
def ragged_groups(draw: st.DrawFn) -> list[list[tuple[float, float, int]]]:
    """One to four groups of one to five responses: (policy logp, reference logp, reward)."""
    return draw(st.lists(st.lists(st.tuples(LOGPS, LOGPS, REWARDS), min_size=1, max_size=5), min_size=1, max_size=4))


def padded(
    rows: list[list[float]], width: int, fill: float, *, left: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """([rows, width] float64 with `fill` where a row ends early (or starts late), mask)."""
    pads = [[fill] * (width - len(row)) for row in rows]
    values = [pad + row if left else row + pad for row, pad in zip(rows, pads, strict=True)]
    slots = range(width)
    mask = [[(slot >= len(pad)) if left else (slot < width - len(pad)) for slot in slots] for pad in pads]
    return torch.tensor(values, dtype=torch.float64), torch.tensor(mask, dtype=torch.bool)
