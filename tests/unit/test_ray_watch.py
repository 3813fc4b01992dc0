"""What a driver does about Ray's processes that it cannot do without; with the real ones: chaos/test_lost_ray.py."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from rayalign.actors import ray_watch
from tests.processes import free_port


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What ends the command; the head is one that does not listen, and Ray waits 2 s for it."""
    monkeypatch.setenv(ray_watch.PATIENCE, "2")
    monkeypatch.setattr(ray_watch, "POLL_S", 0.05)
    context = SimpleNamespace(gcs_address=f"127.0.0.1:{free_port()}")
    monkeypatch.setattr(ray_watch.ray, "get_runtime_context", lambda: context)
    found: list[tuple[str, ...]] = []
    monkeypatch.setattr(ray_watch, "lose", lambda *words: found.append(words))
    return found


def test_a_head_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, said: list[tuple[str, ...]]) -> None:
    monkeypatch.setattr(ray_watch, "_raylet", select.poll)
    ray_watch._watch(threading.Event(), own=False)
    [(found, _, before)] = said
    assert found == "Ray's head at 127.0.0.1 has not answered for 2 s"
    assert before == "start Ray there again, then "


def test_a_raylet_that_ends(monkeypatch: pytest.MonkeyPatch, said: list[tuple[str, ...]]) -> None:
    """Nobody has waited for it: it stays behind as a zombie."""
    raylet = subprocess.Popen([sys.executable, "-c", "pass"])
    told = select.poll()
    told.register(os.pidfd_open(raylet.pid), select.POLLIN)
    monkeypatch.setattr(ray_watch, "_raylet", lambda: told)
    ray_watch._watch(threading.Event(), own=True)
    [(found, _, before)] = said
    assert (found, before) == ("Ray's processes on this machine have ended", "")
    raylet.wait()


def test_what_ends_after_the_run_is_nobodys_business(
    monkeypatch: pytest.MonkeyPatch, said: list[tuple[str, ...]]
) -> None:
    monkeypatch.setattr(ray_watch, "_raylet", select.poll)
    over = threading.Event()
    over.set()
    ray_watch._watch(over, own=True)
    assert said == []
