"""A command on a terminal of its own, where Ctrl-C reaches it and all that it started, as it does for a user."""

from __future__ import annotations

import fcntl
import os
import pty
import subprocess
import termios
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

INTERRUPT = b"\x03"


@dataclass(frozen=True)
class Ended:
    """How a command ended after a press of Ctrl-C."""

    code: int
    seconds: float
    """From the press until the prompt is back."""
    output: str
    left: tuple[str, ...]
    """Processes that the command had started and that are still there a second later."""


class Terminal:
    """The command as the foreground job of a pseudo-terminal; what it writes is read all the time."""

    def __init__(self, command: Sequence[str], env: dict[str, str] | None = None, folder: Path | None = None) -> None:
        self._master, terminal = pty.openpty()
        self.process = subprocess.Popen(
            command,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env=env,
            cwd=folder,
        )
        os.close(terminal)
        self._written = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def output(self) -> str:
        return self._written.decode(errors="replace")

    @property
    def over(self) -> bool:
        return self.process.poll() is not None

    def runs(self, word: str) -> bool:
        """Whether a process below the command's has this word in its command line."""
        return any(word in " ".join(command_line(process)) for process in self.family())

    def family(self) -> list[psutil.Process]:
        """All processes below the command's."""
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def press(self, times: int = 1, after_s: float = 1.0) -> Ended:
        """Press Ctrl-C and wait for the end.

        Args:
            after_s: between two presses.
        """
        family = self.family()
        began = time.monotonic()
        for press in range(times):
            time.sleep(after_s if press else 0)
            os.write(self._master, INTERRUPT)
        code = self.process.wait(timeout=120)
        seconds = time.monotonic() - began
        _, alive = psutil.wait_procs(family, timeout=1)
        return Ended(code, seconds, self.finish(), tuple(f"{one.pid} {one.name()}" for one in alive if _runs(one)))

    def finish(self, limit_s: float = 900) -> str:
        """Wait for the command's own end; returns all that it wrote."""
        self.process.wait(timeout=limit_s)
        self._reader.join(timeout=5)
        return self.output

    def _read(self) -> None:
        while True:
            try:
                some = os.read(self._master, 65536)
            except OSError:
                some = b""
            if not some:
                return
            self._written += some


def _runs(process: psutil.Process) -> bool:
    """Also False of one that ended and whose new parent, on a machine without init, does not ask for its end."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def command_line(process: psutil.Process) -> list[str]:
    """Empty where the process has ended meanwhile."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []
