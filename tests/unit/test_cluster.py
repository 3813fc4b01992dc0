"""A local Ray that does not start at once: tried again, and then an error that says what to do."""

from __future__ import annotations

from typing import Any

import pytest

from rayalign.actors import cluster
from rayalign.errors import EXIT_RESUMABLE, StageTimeoutError

LATE = "The current node timed out during startup."


class Ray:
    """`ray`, which starts after some failures; each call by name."""

    def __init__(self, failures: int) -> None:
        self.failures, self.calls = failures, []

    def init(self, **options: Any) -> None:
        self.calls.append("init")
        if len(self.calls) // 2 < self.failures:
            raise Exception(LATE)

    def shutdown(self) -> None:
        self.calls.append("shutdown")


def test_a_busy_machine_gets_another_try(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(cluster, "ray", fake := Ray(failures=1))
    cluster._start_local()
    assert fake.calls == ["init", "shutdown", "init"]
    assert "2 more tries: The current node timed out" in caplog.text


def test_ray_that_never_starts_ends_the_run_resumable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "ray", fake := Ray(failures=100))
    with pytest.raises(StageTimeoutError, match=r"a local Ray did not start in 3 tries") as caught:
        cluster._start_local()
    assert fake.calls == ["init", "shutdown"] * 3
    assert LATE in str(caught.value) and "run the same command again" in str(caught.value)
    assert caught.value.exit_code == EXIT_RESUMABLE
