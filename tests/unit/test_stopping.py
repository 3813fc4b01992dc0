"""Being told to stop: the flag, the waits that look at it, and how a command's process ends."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from rayalign import stopping
from rayalign.errors import ActorFailedError, InterruptedRunError
from rayalign.store.cache import made_once
from rayalign.tracking.console import Console
from tests.terminal import Terminal

LONG_S = 60


def press(number: signal.Signals = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)


@stopping.stoppable
def told_and_then(wait: Callable[[], object], number: signal.Signals = signal.SIGINT) -> object:
    press(number)
    return wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "wait",
    [
        lambda: stopping.sleep(LONG_S),
        lambda: stopping.call(lambda: time.sleep(LONG_S)),
        lambda: stopping.call(lambda: stopping.sleep(LONG_S)),
    ],
    ids=["sleep", "call", "sleep in a call"],
)
def test_a_wait_ends_at_once(
    wait: Callable[[], object], number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(number)
    began = time.monotonic()
    with pytest.raises(InterruptedRunError, match=f"stopped by {number.name}") as raised:
        told_and_then(wait, number)
    assert time.monotonic() - began < 5
    assert raised.value.exit_code == 3 and "run the same command again" in raised.value.remedy
    assert capsys.readouterr().err == "stopping, up to 7 s\n"
    assert signal.getsignal(number) is before and not stopping.asked()


def test_a_signal_that_another_thread_gets_is_seen() -> None:
    """Linux hands it to any one; where that is not the main one, whose handler it is, the main one sleeps on."""

    @stopping.stoppable
    def told() -> None:
        time.sleep(0.3)  # until the main thread waits
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        stopping.sleep(8)

    began = time.monotonic()
    with pytest.raises(InterruptedRunError, match="stopped by SIGINT"):
        told()
    assert time.monotonic() - began < 5


def test_whatever_is_raised_after_a_stop_is_a_stop() -> None:
    def fail() -> None:
        while not stopping.asked():
            time.sleep(0.01)
        raise ActorFailedError("generator-0 died")

    with pytest.raises(InterruptedRunError, match="stopped by SIGINT") as raised:
        told_and_then(fail)
    assert isinstance(raised.value.__cause__, ActorFailedError)


def test_what_is_done_before_the_stop_is_seen_stays_done() -> None:
    assert told_and_then(lambda: "done") == "done"


def test_without_a_stop_results_and_errors_pass_through() -> None:
    def fail() -> None:
        raise ActorFailedError("generator-0 died")

    assert stopping.stoppable(lambda: stopping.call(lambda: 5))() == 5
    for inside in (fail, lambda: stopping.call(fail)):
        with pytest.raises(ActorFailedError):
            stopping.stoppable(inside)()


def test_what_is_said_goes_where_the_console_is(capsys: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []

    def wait() -> None:
        with stopping.telling(said.append):
            press()
            stopping.sleep(LONG_S)

    with pytest.raises(InterruptedRunError):
        stopping.stoppable(wait)()
    assert said == ["stopping, up to 7 s"] and not capsys.readouterr().err


def test_a_stage_that_is_stopped_did_not_fail(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()

    def wait() -> None:
        with console.stage("update", 1, total=4):
            press()
            stopping.sleep(LONG_S)

    with pytest.raises(InterruptedRunError):
        stopping.stoppable(wait)()
    assert "round 1 · update stopped" in capsys.readouterr().out


def test_waiting_for_another_process_that_makes_a_model_ends(tmp_path: Path) -> None:
    making, enough = threading.Event(), threading.Event()

    def make(scratch: Path) -> None:
        making.set()
        enough.wait(LONG_S)
        (scratch / "model").mkdir()

    other = threading.Thread(target=lambda: made_once(tmp_path / "model", make))
    other.start()
    making.wait(LONG_S)
    with pytest.raises(InterruptedRunError):
        told_and_then(lambda: made_once(tmp_path / "model", lambda scratch: (scratch / "model").mkdir()))
    enough.set()
    other.join()
    assert (tmp_path / "model").is_dir()


STUCK = """
import subprocess, sys, threading, time
from rayalign import stopping
stopping.LIMIT_S = {limit}

@stopping.stoppable
def work():
    subprocess.Popen([sys.executable, "-c", {child!r}], start_new_session=True)
    threading.Thread(target=time.sleep, args=(60,)).start()
    print("working", flush=True)
    {wait}

try:
    work()
except BaseException as error:
    print(error)
stopping.leave(3)
"""
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"


def stuck(wait_for: Callable, limit: float, wait: str = "time.sleep(60)") -> Terminal:
    """A command that has a child which hears no signal, a thread that does not end, and a wait that sees no stop."""
    terminal = Terminal([sys.executable, "-c", STUCK.format(limit=limit, wait=wait, child=DEAF)], dict(os.environ))
    wait_for(lambda: "working" in terminal.output or terminal.over, 60)
    return terminal


def test_a_command_that_does_not_end_is_ended_with_all_it_started(wait_for: Callable) -> None:
    ended = stuck(wait_for, limit=1).press()
    assert ended.code == 3 and 1 <= ended.seconds < 5
    assert "stopping, up to 1 s" in ended.output and "stopped by SIGINT" in ended.output
    assert not ended.left


def test_a_second_press_ends_it_at_once(wait_for: Callable) -> None:
    ended = stuck(wait_for, limit=50).press(times=2, after_s=0.7)
    assert ended.code == 3 and ended.seconds < 5
    assert "stopped by SIGINT" in ended.output
    assert not ended.left


def test_two_signals_of_one_press_are_one(wait_for: Callable) -> None:
    ended = stuck(wait_for, limit=1.5).press(times=2, after_s=0.1)
    assert ended.code == 3 and ended.seconds >= 1.5


def test_a_stopped_command_waits_for_no_thread_and_leaves_no_child(wait_for: Callable) -> None:
    ended = stuck(wait_for, limit=50, wait="stopping.sleep(60)").press()
    assert ended.code == 3 and ended.seconds < 5
    assert "Traceback" not in ended.output and not ended.left


def test_only_processes_below_this_one_are_its_family() -> None:
    running = stopping._running()
    family = stopping._below(running)
    mine = psutil.Process()
    assert {pid for pid, _ in family} == {child.pid for child in mine.children(recursive=True)}
    assert mine.ppid() not in {pid for pid, _ in family}
