"""The run's event log, `metrics.jsonl`."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from rayalign.errors import RunFolderError, full_disk
from rayalign.records import JsonObject
from rayalign.store.files import json_value
from rayalign.store.folder import Folder

EVERY_S = 5.0


class EventLog:
    """Append-only JSON lines: `{"time": UTC ISO 8601, "event": kind, ...fields}`.

    Every line is one write to a file opened for appending, so a reader, or a second writer, sees whole lines. A
    line that a killed run left torn is closed off on opening, so that the next event does not continue it.

    Raises:
        StoreError: the disk is full.
        OSError: the file cannot be opened or written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("ab", buffering=0)
        if _is_torn(self.path):
            self._file.write(b"\n")

    def write(self, event: str, /, **fields: object) -> None:
        """Append one event. NaN and infinities become null; what JSON has no type for becomes its `str`.

        Raises:
            ValueError: a field is called `time` or `event`, or the log is closed.
        """
        taken = sorted({"time", "event"} & fields.keys())
        if taken:
            raise ValueError(f"event {event!r} has a field {taken[0]!r}, which the log writes itself: rename it")
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps(json_value({"time": time, "event": event, **fields}), allow_nan=False) + "\n"
        self._append(line.encode("ascii"))

    def _append(self, line: bytes) -> None:
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise full_disk(error, self.path) or error from error

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class StoreEventLog(EventLog):
    """`EventLog` on an object store, where nothing can be appended: the object is written anew with all lines.

    That happens `EVERY_S` after the first event that it lacks, and on closing. A kill loses the events since then; the
    run itself never reads them.

    Raises:
        RunFolderError: on opening and closing, the store cannot be used. In between it is tried again.
    """

    def __init__(self, target: Folder, every_s: float = EVERY_S) -> None:
        self._target, self._every_s = target, every_s
        self._lines = bytearray(target.find_bytes() or b"")
        if self._lines and not self._lines.endswith(b"\n"):
            self._lines += b"\n"
        self._written = len(self._lines)
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._closed = False

    def _append(self, line: bytes) -> None:
        if self._closed:
            raise ValueError("write to a closed event log")
        with self._lock:
            self._lines += line
            if self._timer is None:
                self._timer = threading.Timer(self._every_s, self._write_later)
                self._timer.daemon = True
                self._timer.start()

    def _write_later(self) -> None:
        with self._lock:
            self._timer = None
            with suppress(RunFolderError):
                self._write_all()

    def _write_all(self) -> None:
        if self._written < len(self._lines):
            self._target.write_bytes(bytes(self._lines))
            self._written = len(self._lines)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()
            self._write_all()


def open_log(path: Folder) -> EventLog:
    """The log of a run, wherever its folder is."""
    return EventLog(path.local_path()) if path.is_local else StoreEventLog(path)


def read_events(path: str | os.PathLike[str] | Folder) -> Iterator[JsonObject]:
    """The events of a log, in order; none if there is no file.

    Lines that are not a JSON object are skipped: a killed run leaves its last line torn, and a resumed run goes on
    after it.
    """
    for line in (Folder(path).find_bytes() or b"").splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict):
            yield event


def _is_torn(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"
