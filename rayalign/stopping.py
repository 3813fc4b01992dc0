"""Being told to stop: SIGINT or SIGTERM set a flag, whoever waits looks at it, and the command ends in time.

    main thread     a signal ─► the flag, "stopping, up to 7 s" ─► then, or at a second signal: all processes end
    another thread  the command's work; its waits see the flag ─► InterruptedRunError ─► what is open is closed

The work does not run in the main thread, because only there Python calls signal handlers, and only between two of its
own instructions: a long call into C would hold the answer back, and what a handler raises under Ray's C code is lost.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from pathlib import Path
from types import FrameType
from typing import NoReturn, ParamSpec, TypeVar

from rayalign.errors import EXIT_RESUMABLE, InterruptedRunError

LIMIT_S = 7
"""After so long what has not ended by itself is ended; a run folder may lose its process at any time."""
SAME_PRESS_S = 0.5
"""Programs that start others (`timeout`, `uv run`) pass on a signal that the terminal has sent to all of them."""
POLL_S = 0.2

P = ParamSpec("P")
R = TypeVar("R")
Say = Callable[[str], None]
Process = tuple[int, str]
"""Id and start time, so that a later process of the same id is another one."""

_asked = threading.Event()
_voices: list[Say] = [lambda text: print(text, file=sys.stderr, flush=True)]


def asked() -> bool:
    """Whether this process was told to stop."""
    return _asked.is_set()


def check() -> None:
    """Go on only if nobody told this process to stop.

    Raises:
        InterruptedRunError: somebody did.
    """
    if _asked.is_set():
        raise InterruptedRunError("stopped", "", "run the same command again to go on")


def sleep(seconds: float) -> None:
    """`time.sleep` that a stop ends, by `InterruptedRunError`."""
    if _asked.wait(seconds):
        check()


def call(action: Callable[[], R], until: threading.Event | None = None) -> R:
    """What an action gives that cannot look at the flag itself. At a stop it is left behind in its thread.

    Args:
        until: how long the thread lasts after it; Linux may end processes with the thread that started them.

    Raises:
        InterruptedRunError: this process was told to stop.
    """
    return aside(action, until)()


def aside(action: Callable[[], R], until: threading.Event | None = None) -> Callable[[], R]:
    """Begin an action in a thread of its own. What is returned waits for it: result, arguments and errors of `call`."""
    done = _in_thread(action, "waited-for", until)

    def result() -> R:
        while not wait([done], POLL_S).done:
            check()
        check()
        return done.result()

    return result


@contextlib.contextmanager
def telling(say: Say) -> Iterator[None]:
    """Meanwhile, what is said of a stop is said so: where stdout and stderr lead elsewhere, for one."""
    _voices.append(say)
    try:
        yield
    finally:
        _voices.remove(say)


def stoppable(command: Callable[P, R]) -> Callable[P, R]:
    """A command that SIGINT and SIGTERM end in order and in time.

    Whatever it raises after that is an `InterruptedRunError` that names the command to resume with. From a thread other
    than the main one it is called as it is: signals do not come there.
    """

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        if threading.current_thread() is not threading.main_thread():
            return command(*args, **kwargs)
        with _Signals() as signals:
            done = _in_thread(lambda: command(*args, **kwargs), "command")
            # Not in one go: Linux may hand a signal to any thread, and this one wakes only for its own.
            while not wait([done], POLL_S).done:
                pass
            error = done.exception()
            if error is not None and signals.first is not None:
                raise _stopped(signals.first, error) from error
            return done.result()

    return run


def lose(found: str, why: str, before: str = "") -> None:
    """End this process's command at once, from any thread, as it has lost what it cannot go on without: resumable.
    Where a program of the user's own does its work, or it is ending anyway, nothing.

    Args:
        before: what the user is to do before the same command can go on.
    """
    if _Signals.now is not None and not asked():
        _Signals.now.end(InterruptedRunError(found, why, f"{before}run the same command again to go on{_command()}"))


def leave(code: int) -> NoReturn:
    """End this process, and at once where it was told to stop: threads that were left behind are not waited for."""
    if _Signals.ever:
        _end(code)
    sys.exit(code)


class _Signals:
    """SIGINT and SIGTERM while they are caught."""

    ever = False
    """Whether one came in this process's life."""
    now: _Signals | None = None

    def __init__(self) -> None:
        self.first: str | None = None
        self._since = 0.0
        self._limit = threading.Timer(LIMIT_S, self._end_now)
        self._limit.daemon = True

    def __enter__(self) -> _Signals:
        self._before = {number: signal.signal(number, self._catch) for number in (signal.SIGINT, signal.SIGTERM)}
        _Signals.now = self
        return self

    def __exit__(self, *_: object) -> None:
        _Signals.now = None
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._limit.cancel()
        _asked.clear()

    def _catch(self, number: int, frame: FrameType | None) -> None:
        # Ray catches SIGTERM before Python does, and has the process aborted three seconds later.
        signal.alarm(0)
        if self.first is None:
            self.first, self._since = signal.Signals(number).name, time.monotonic()
            _Signals.ever = True
            self._limit.start()
            _tell(f"stopping, up to {LIMIT_S} s")
            # Now, as a process whose parent has ended is nobody's child any more.
            _family.update(_below(_running()))
            # Last, as it ends the work, and with it the console.
            _asked.set()
        elif time.monotonic() - self._since > SAME_PRESS_S:
            self._end_now()

    def _end_now(self) -> NoReturn:
        assert self.first is not None
        self.end(_stopped(self.first))

    def end(self, error: InterruptedRunError) -> NoReturn:
        """Say why, and end this process and all that it has started."""
        _tell(str(error))
        # A bar hides the terminal's cursor.
        with contextlib.suppress(OSError), open("/dev/tty", "w") as terminal:
            terminal.write("\x1b[?25h")
        _end(EXIT_RESUMABLE)


def _tell(text: str) -> None:
    # Nobody may be listening any more, which must not keep the process alive.
    with contextlib.suppress(Exception):
        _voices[-1](text)


def _stopped(name: str, error: BaseException | None = None) -> InterruptedRunError:
    """The error that ends a command; one of ours that says more of what goes on keeps its words."""
    if isinstance(error, InterruptedRunError) and error.why:
        return error
    return InterruptedRunError(f"stopped by {name}", "", f"run the same command again to go on{_command()}")


def _command() -> str:
    """The command of this process, where a user gave it: that of a job is the cluster's."""
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:
        return ""
    program = Path(sys.argv[0])
    words = [sys.executable, "-m", "rayalign"] if program.name == "__main__.py" else [sys.argv[0]]
    return f": {shlex.join([*words, *sys.argv[1:]])}"


def _in_thread(action: Callable[[], R], name: str, until: threading.Event | None = None) -> Future[R]:
    done: Future[R] = Future()

    def act() -> None:
        try:
            result = action()
        except BaseException as error:
            done.set_exception(error)
        else:
            done.set_result(result)
            if until is not None:
                until.wait()

    threading.Thread(target=act, daemon=True, name=name).start()
    return done


_family: set[Process] = set()
"""Processes below this one when it was told to stop."""


def _end(code: int) -> NoReturn:
    running = _running()
    for process in (_family & running.keys()) | _below(running):
        with contextlib.suppress(OSError):
            os.kill(process[0], signal.SIGKILL)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)


def _running() -> dict[Process, int]:
    """All processes of this machine with their parents; none where there is no /proc."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            # The name before the parenthesis may hold anything; then come the state, the parent, ..., the start.
            fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
            found[int(folder.name), fields[19]] = int(fields[1])
    return found


def _below(running: dict[Process, int]) -> set[Process]:
    """Children of this process, and theirs."""
    found: set[Process] = set()
    parents = {os.getpid()}
    while parents:
        children = {process for process, parent in running.items() if parent in parents}
        found |= children
        parents = {pid for pid, _ in children}
    return found
