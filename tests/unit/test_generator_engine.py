"""The thread that owns a generator's engine, with an engine made up for the test: what happens when vLLM fails."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rayalign.actors import engine as engine_module
from rayalign.actors.engine import Engine
from rayalign.errors import ActorFailedError
from tests.fakes import make_config
from tests.tiny_run import make_base


class FailingVllm:
    """Its first step waits for `gate` and finishes nothing; the second fails."""

    def __init__(self) -> None:
        self.stepping, self.gate = threading.Event(), threading.Event()
        self.running: list[str] = []

    def add_request(self, name: str, *_: Any, **__: Any) -> None:
        self.running.append(name)

    def abort_request(self, names: list[str]) -> None:
        self.running = [name for name in self.running if name not in names]

    def reset_prefix_cache(self) -> None:
        pass

    def step(self) -> list[Any]:
        if self.gate.is_set():
            raise RuntimeError("engine core died")
        self.stepping.set()
        assert self.gate.wait(60)
        return []


def answer_of(call: Any, *arguments: Any) -> tuple[threading.Thread, list[Any]]:
    """A call in a thread of its own, and what it raises."""
    raised: list[Any] = []

    def run() -> None:
        try:
            call(*arguments)
        except ActorFailedError as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, raised


def test_a_failure_while_a_change_of_version_waits_answers_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vllm, failures = FailingVllm(), []
    monkeypatch.setattr(engine_module, "start_vllm", lambda *_: vllm)
    base = make_base(tmp_path / "base")
    engine = Engine("generator-0", str(base), make_config(), on_failure=lambda: failures.append(1))
    engine.hold(0, None)
    request = ([1, 2], SimpleNamespace(clone=lambda: None))
    asking, first = answer_of(engine._run, [request, request], 0)
    assert vllm.stepping.wait(60)
    changing, second = answer_of(engine.hold, 0, None)
    while engine._inbox.empty():
        changing.join(0.01)
    vllm.gate.set()
    for thread, raised in ((asking, first), (changing, second)):
        thread.join(60)
        assert [str(error) for error in raised] == ["generator-0: vLLM failed: RuntimeError: engine core died"]
    assert failures == [1] and vllm.running == []
    assert engine.hold(0, None).version == 0
