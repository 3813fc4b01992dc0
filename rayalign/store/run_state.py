"""How far a run is, who works on it, and how fast it goes: from its files alone, and without touching its lock."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from rayalign.records import SHARD_PROMPTS, JsonObject
from rayalign.store.folder import Folder
from rayalign.store.lease import LEASE_S
from rayalign.store.saved_run import SavedRun

State = Literal["running", "done", "stopped", "failed"]
TAIL = 1 << 18
"""Bytes at the end of the event log that are looked at."""


@dataclass(frozen=True, slots=True)
class RunState:
    """Where a run stands."""

    state: State
    rounds: int
    """As configured, without round 0."""
    finished: list[int]
    in_flight: int | None
    """The round that is begun and not finished."""
    commits: dict[str, int]
    """What of it is committed, by kind: shards of `train` and the like, or 1."""
    shards: int
    """Shards of training prompts that a round has."""
    holder: str | None
    """Who holds the folder's lock, in words."""
    last_event: JsonObject = field(default_factory=dict)
    """The newest event of the log; empty where there is none."""
    age_s: float | None = None
    """Seconds since that event."""
    round_s: float | None = None
    """Seconds that a round took, the median of the last ones."""

    @property
    def left_s(self) -> float | None:
        """Seconds until the last round is done, if all go on as they did; None where that is not known."""
        if self.state == "done" or self.round_s is None:
            return 0.0 if self.state == "done" else None
        rounds = self.rounds - max(self.finished, default=-1)
        under_way = min(self.age_s or 0.0, self.round_s) if self.last_event.get("event") == "round" else 0.0
        return rounds * self.round_s - under_way


def run_state(run: SavedRun) -> RunState:
    """Where a run stands now.

    Raises:
        RunFolderError: the store cannot be used.
    """
    settings = run.config.get("run", {}), run.config.get("prompts", {})
    rounds, per_round = settings[0].get("rounds", 0), settings[1].get("per_round") or 0
    finished = [one.index for one in run.run_dir.rounds()]
    begun = [one for one in run.run_dir.begun_rounds() if one.index not in finished and one.commits()]
    events = last_events(run.run_dir.root / "metrics.jsonl")
    holder = _holder(run.run_dir.root)
    last = events[-1] if events else {}
    return RunState(
        state=_state(finished, rounds, holder, events),
        rounds=rounds,
        finished=finished,
        in_flight=begun[0].index if begun else None,
        commits=_kinds(begun[0].commits()) if begun else {},
        shards=-(-per_round // SHARD_PROMPTS),
        holder=holder,
        last_event=last,
        age_s=_age(last),
        round_s=_round_seconds(events),
    )


def _state(finished: Sequence[int], rounds: int, holder: str | None, events: Sequence[JsonObject]) -> State:
    if rounds in finished:
        return "done"
    if holder is not None:
        return "running"
    return "failed" if events and events[-1].get("failed") is True else "stopped"


def _kinds(commits: Sequence[str]) -> dict[str, int]:
    kinds: dict[str, int] = {}
    for name in commits:
        kind, _, number = name.partition("-")
        if number.isdigit():
            kinds[kind] = kinds.get(kind, 0) + 1
        else:
            kinds.setdefault(name, 1)
    return kinds


# -- the lock


def _holder(root: Folder) -> str | None:
    return _local_holder(root.local_path() / ".lock") if root.is_local else _lease_holder(root / ".lock.json")


def _local_holder(lock: Path) -> str | None:
    """Who has locked the file, as the kernel lists it: to try the lock would keep a run out that begins just then."""
    try:
        known, table = lock.stat(), Path("/proc/locks").read_text()
    except OSError:
        return None
    for line in table.splitlines():
        words = line.split()
        if len(words) > 5 and "FLOCK" in words and words[-3].rpartition(":")[2] == str(known.st_ino):
            pid = words[-4]
            if _device(words[-3]) == known.st_dev or _opened(pid, lock):
                return f"pid {pid} on this machine"
    return None


def _device(text: str) -> int | None:
    """The device of `fd:01:1234`."""
    with suppress(ValueError):
        major, minor, _ = text.split(":")
        return os.makedev(int(major, 16), int(minor, 16))
    return None


def _opened(pid: str, lock: Path) -> bool:
    """Whether the process has the file open; some file systems give other devices there than here."""
    with suppress(OSError):
        return any(os.readlink(one) == str(lock.absolute()) for one in Path(f"/proc/{pid}/fd").iterdir())
    return False


def _lease_holder(lock: Folder) -> str | None:
    """Who renewed the lease in time; one that a killed process left runs out."""
    filesystem, path = lock.filesystem_and_path()
    with lock.explained():
        changed = filesystem.get_file_info(path).mtime
    if changed is None or (datetime.now(UTC) - changed.astimezone(UTC)).total_seconds() > 1.2 * LEASE_S:
        return None
    try:
        found = json.loads(lock.find_text() or "{}")
        return f"pid {found['pid']} on {found['host']}"
    except (ValueError, KeyError, TypeError):
        return None


# -- the log


def last_events(log: Folder) -> list[JsonObject]:
    """The events at the end of the log, those of earlier attempts left out for the time a round takes."""
    try:
        with log.reading() as file:
            size = file.size()
            file.seek(max(0, size - TAIL))
            lines = file.read().splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return []
    events = []
    for line in lines:
        with suppress(ValueError):
            events.append(json.loads(line))
    return [one for one in events if isinstance(one, dict) and _time(one) is not None]


def _round_seconds(events: Sequence[JsonObject]) -> float | None:
    """The median time from the end of one round to the end of the next, within one attempt."""
    took, before = [], None
    for event in events:
        if event.get("event") == "start":
            before = None
        if event.get("event") == "round":
            now = _time(event)
            if before is not None and now is not None and event.get("round") != 0:
                took.append((now - before).total_seconds())
            before = now
    return statistics.median(took[-5:]) if took else None


def _age(event: JsonObject) -> float | None:
    time = _time(event)
    return None if time is None else max(0.0, (datetime.now(UTC) - time).total_seconds())


def _time(event: JsonObject) -> datetime | None:
    try:
        found = datetime.fromisoformat(event["time"])
    except (KeyError, ValueError, TypeError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
