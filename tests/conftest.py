"""Settings for all tests."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.object_store import CREDENTIALS, ObjectStore

# A loaded machine is slow, which is no failure. The same examples every time: a change is judged, not the dice.
settings.register_profile("rayalign", deadline=None, derandomize=True)
settings.load_profile("rayalign")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if marker := item.get_closest_marker("gpu"):
        count, reason = gpus()
        if count < (wanted := marker.args[0] if marker.args else 1):
            pytest.skip(f"needs {wanted} NVIDIA GPU{'s' * (wanted > 1)}: {reason}")


@functools.cache
def gpus() -> tuple[int, str]:
    """How many GPUs torch sees, and why not more."""
    import torch

    if torch.version.cuda is None:
        return 0, f"torch {torch.__version__} is a build without CUDA (make clean setup PROFILE=gpu)"
    count = torch.cuda.device_count()
    return count, f"torch {torch.__version__} sees {count}"


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """An S3 server with one bucket, and credentials for it in the environment."""
    before = {name: os.environ.get(name) for name in CREDENTIALS}
    os.environ |= CREDENTIALS
    store = ObjectStore(tmp_path_factory.mktemp("s3") / "server.log")
    yield store
    store.stop()
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


@pytest.fixture(scope="session")
def wait_for() -> Callable[[Callable[[], object], float], None]:
    def wait(condition: Callable[[], object], limit_s: float) -> None:
        deadline = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < deadline, f"nothing happened in {limit_s} s"
            time.sleep(0.1)

    return wait


@pytest.fixture(scope="session")
def demo_folder() -> Path:
    """The demo policy; trained at first use, then cached."""
    from rayalign.demo.policy import demo_policy

    return demo_policy()
