"""A local Ray that does not start at once: tried again, and then an error that says what to do."""

from __future__ import annotations

from typing import Any

import pytest
from ray.exceptions import TaskUnschedulableError

from rayalign.actors import cluster
from rayalign.errors import EXIT_RESUMABLE, ClusterError, StageTimeoutError

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


@pytest.mark.parametrize("alive", [True, False])
def test_a_node_that_goes_while_it_is_asked_is_left_out(monkeypatch: pytest.MonkeyPatch, alive: bool) -> None:
    """One that is there and fails ends the run: what is wrong with it would be met again."""

    def fail(ref: object, timeout_s: float) -> None:
        raise TaskUnschedulableError("the node doesn't exist any more")

    monkeypatch.setattr(cluster, "fetch", fail)
    monkeypatch.setattr(cluster.ray, "nodes", lambda: [{"NodeID": "a", "Alive": True}, {"NodeID": "b", "Alive": alive}])
    node = cluster.Node("b", "10.0.0.2", 2, 0)
    if alive:
        with pytest.raises(ClusterError, match=r"node 10\.0\.0\.2 cannot run rayalign"):
            cluster._answer(node, None)
    else:
        assert cluster._answer(node, None) is None
