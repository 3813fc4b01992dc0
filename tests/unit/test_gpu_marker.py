"""The tests for a GPU: skipped with a reason where there is none, and ready where there is one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rayalign.config.file import load_config
from tests import conftest
from tests.gpu.test_gpu import ENGINE, LEARNER

ROOT = Path(__file__).parents[2]


def marked(*count: int) -> Any:
    return SimpleNamespace(get_closest_marker=lambda name: SimpleNamespace(args=count) if name == "gpu" else None)


@pytest.mark.parametrize(
    ("cuda", "there", "wanted", "reason"),
    [
        (None, 8, (), r"needs 1 NVIDIA GPU: torch .* is a build without CUDA \(make clean setup PROFILE=gpu\)"),
        ("13.0", 0, (), "needs 1 NVIDIA GPU: torch .* sees 0"),
        ("13.0", 1, (2,), "needs 2 NVIDIA GPUs: torch .* sees 1"),
        ("13.0", 1, (), None),
        ("13.0", 2, (2,), None),
    ],
    ids=["CPU build", "no GPU", "one of two", "one of one", "two of two"],
)
def test_the_marker_skips_with_a_reason(
    monkeypatch: pytest.MonkeyPatch, cuda: str | None, there: int, wanted: tuple[int, ...], reason: str | None
) -> None:
    import torch

    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    monkeypatch.setattr(conftest, "gpus", conftest.gpus.__wrapped__)
    if reason is None:
        conftest.pytest_runtest_setup(marked(*wanted))
    else:
        with pytest.raises(pytest.skip.Exception, match=reason):
            conftest.pytest_runtest_setup(marked(*wanted))


def test_every_test_for_a_gpu_is_marked() -> None:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "not gpu", "tests/gpu"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == pytest.ExitCode.NO_TESTS_COLLECTED, done.stdout


@pytest.mark.parametrize("settings", [ENGINE, [*ENGINE, *LEARNER]], ids=["one GPU", "two GPUs"])
def test_their_configs_are_taken(settings: list[str]) -> None:
    config = load_config(ROOT / "configs" / "quickstart.yaml", settings)
    assert config.cluster.generators.gpus == 1 and not config.merges
