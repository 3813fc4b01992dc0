"""All that `rayalign doctor --gpu` tries, for real, on the CPU: the same code with a tiny model."""

from __future__ import annotations

from pathlib import Path

import pytest

from rayalign.commands.doctor_gpu import CHECKS, try_part

pytestmark = [pytest.mark.slow, pytest.mark.integration]

FIGURES = {
    "device": ("CPU, ", "TFLOP/s"),
    "sampling": ("tokens/s", "same answers at same seeds 1,"),
    "adapter sync": ("base gap ", "moved 1.1"),
    "sleep and wake": ("sleep ", "gap after 0"),
    "tensor parallel": ("gap ",),
    "learner": ("tokens/s", "loss "),
    "colocated round": ("moved ", "turns "),
}


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models of random weights, made once."""
    return tmp_path_factory.mktemp("doctor")


@pytest.mark.parametrize("name", CHECKS)
def test_part(name: str, scratch: Path, tmp_path: Path) -> None:
    result = try_part(name, "cpu", scratch, tmp_path)
    assert result.status == "ok", f"{result.told}\n{(tmp_path / result.log).read_text()[-3000:] if result.log else ''}"
    assert all(figure in result.told for figure in FIGURES[name]), result.told
