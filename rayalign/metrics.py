"""The run's event log (`metrics.jsonl`), and how metrics are named and written for people."""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

from rayalign.errors import RunFolderError
from rayalign.storage import Folder

MISSING = "–"  # noqa: RUF001
EVERY_S = 5.0


class EventLog:
    """Append-only JSON lines: `{"time": UTC ISO 8601, "event": kind, ...fields}`.

    Every line is one write to a file opened for appending, so a reader, or a second writer, sees whole lines. A
    line that a killed run left torn is closed off on opening, so that the next event does not continue it.

    Raises:
        OSError: the file cannot be opened or written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("ab", buffering=0)
        if _is_torn(self.path):
            self._file.write(b"\n")

    def write(self, event: str, /, **fields: Any) -> None:
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
        while rest:
            rest = rest[self._file.write(rest) :]

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


def read_events(path: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """The events of a log, in order; none if there is no file.

    Lines that are not a JSON object are skipped: a killed run leaves its last line torn, and a resumed run goes on
    after it.
    """
    if not Path(path).exists():
        return
    with Path(path).open("rb") as lines:
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict):
                yield event


def json_value(value: Any) -> Any:
    """`value` with plain JSON types only: non-finite floats as None, numpy scalars and arrays unwrapped, keys text."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((json_value(item) for item in value), key=str)
    unwrapped = value.tolist() if hasattr(value, "tolist") else str(value)
    return json_value(unwrapped)


def _is_torn(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


@dataclass(frozen=True, slots=True)
class Display:
    """How one metric is shown to people."""

    label: str
    style: Literal["percent", "number"] = "number"
    unit: str = ""


DISPLAYS = {
    "pass_rate": Display("pass rate", "percent"),
    "pass_rate/greedy": Display("pass rate, greedy", "percent"),
    "mean_reward/greedy": Display("mean reward, greedy"),
    "mean_reward": Display("mean reward"),
    "win_rate/round_0": Display("win rate vs round 0", "percent"),
    "win_rate/previous": Display("win rate vs previous", "percent"),
    "kl_base": Display("KL to base", unit="nats"),
    "length_tokens": Display("length", unit="tokens"),
    "truncation_rate": Display("truncated", "percent"),
    "distinct_2": Display("distinct bigrams", "percent"),
    "duplicate_rate": Display("duplicates", "percent"),
}
"""In the order in which they are shown; `mean_reward/<scorer>` comes after `mean_reward`."""


def display(name: str) -> Display:
    """How the metric of that name is shown; a name that is not known is its own label."""
    if name.startswith("mean_reward/"):
        return Display(f"reward {name.removeprefix('mean_reward/')}")
    if name.startswith("win_rate/") and name not in DISPLAYS:
        return Display(f"win rate vs {name.removeprefix('win_rate/')}", "percent")
    return DISPLAYS.get(name, Display(name))


def display_order(names: set[str]) -> list[str]:
    """Names in the order in which people should see them, unknown ones last."""
    known = list(DISPLAYS)

    def rank(name: str) -> tuple[int, str]:
        family = name if name in DISPLAYS else "mean_reward" if name.startswith("mean_reward/") else ""
        return (known.index(family) if family else len(known), "" if name in DISPLAYS else name)

    return sorted(names, key=rank)


def format_value(value: float | None, style: Literal["percent", "number"] = "number") -> str:
    """A number for people; `MISSING` where there is none.

    >>> format_value(0.5312, "percent"), format_value(0.5312), format_value(23.44), format_value(1.2e-5)
    ('53.1%', '0.531', '23.4', '1.2e-05')
    """
    if value is None or not math.isfinite(value):
        return MISSING
    if style == "percent":
        return f"{100 * value:.1f}%"
    size = abs(value)
    if size >= 1e6 or 0 < size < 5e-4:
        return f"{value:.1e}"
    if 0 < size < 0.01:
        return f"{value:.2g}"
    return f"{value:.3f}" if size < 10 else f"{value:.1f}" if size < 1000 else f"{value:.0f}"


def format_interval(low: float, high: float, style: Literal["percent", "number"] = "number") -> str:
    """`[50.1, 56.2]`, in percent where the style says so."""
    return f"[{format_value(low, style).rstrip('%')}, {format_value(high, style).rstrip('%')}]"
