"""The thread that owns a generator's engine, with an engine made up for the test: what happens when vLLM fails."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rayalign.actors import engine as engine_module
from rayalign.actors.engine import Engine
from rayalign.errors import ActorFailedError, AdapterVersionError
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


class SleepyVllm(FailingVllm):
    """Notes what it is told; a request is answered by the second step after it."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []
        self.fails = ""

    def note(self, what: str) -> None:
        if self.fails == what:
            raise RuntimeError(f"no memory to {what}")
        self.told.append(what)

    def sleep(self, level: int) -> None:
        assert not self.running
        self.note(f"sleep {level}")

    def wake_up(self) -> None:
        self.note("wake")

    def collective_rpc(self, what: str, **_: Any) -> None:
        self.note(what)

    def apply_model(self, _: Any) -> None:
        pass

    def step(self) -> list[Any]:
        self.stepping.set()
        assert self.gate.wait(60)
        finished, self.running = self.running, []
        self.told.append("answered")
        return [SimpleNamespace(request_id=name, finished=True) for name in finished]


@pytest.fixture
def sleepy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[SleepyVllm, Engine, list[int]]:
    vllm, failures = SleepyVllm(), []
    monkeypatch.setattr(engine_module, "start_vllm", lambda *_: vllm)
    base = make_base(tmp_path / "base")
    engine = Engine("generator-0", str(base), make_config(), on_failure=lambda: failures.append(1))
    engine.hold(0, None)
    return vllm, engine, failures


def test_it_sleeps_when_all_is_answered_and_answers_for_no_version_then(sleepy: tuple) -> None:
    vllm, engine, failures = sleepy
    request = ([1, 2], SimpleNamespace(clone=lambda: None))
    asking, _ = answer_of(engine._run, [request], 0)
    assert vllm.stepping.wait(60)
    sleeping, _ = answer_of(engine.sleep, 1)
    while engine._inbox.empty():
        sleeping.join(0.01)
    vllm.gate.set()
    for thread in (asking, sleeping):
        thread.join(60)
    assert vllm.told == ["answered", "sleep 1"]
    with pytest.raises(AdapterVersionError, match="holds no version asleep"):
        engine._run([request], 0)
    with pytest.raises(ActorFailedError, match="asleep"):
        engine.hold(0, None)
    engine.sleep(1)
    state = engine.wake()
    assert state is not None and (state.version, state.sha256) == (0, None)
    assert engine.wake() == state
    assert vllm.told == ["answered", "sleep 1", "wake"]
    engine._run([request], 0)
    assert not failures


def test_weights_that_were_forgotten_are_read_again_before_a_version_is_held(sleepy: tuple) -> None:
    """Merged weights come whole from the checkpoint, at the next version."""
    vllm, engine, _ = sleepy
    engine.sleep(2)
    assert engine.wake() is None
    assert vllm.told == ["sleep 2", "wake"]
    assert engine.hold(0, None).version == 0
    assert vllm.told[2:] == ["reload_weights"]


@pytest.mark.parametrize("fails", ["sleep 1", "wake"])
def test_an_engine_that_cannot_sleep_or_wake_is_replaced(sleepy: tuple, fails: str) -> None:
    vllm, engine, failures = sleepy
    if fails == "wake":
        engine.sleep(1)
    vllm.fails = fails
    with pytest.raises(ActorFailedError, match=f"vLLM failed: RuntimeError: no memory to {fails}"):
        engine.wake() if fails == "wake" else engine.sleep(1)
    assert failures == [1]
