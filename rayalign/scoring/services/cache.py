"""Results that are not asked for twice: judgments and rewards in an SQLite file that processes share."""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from rayalign.errors import ConfigError

_log = logging.getLogger(__name__)
FILE = "scores.sqlite"
BUSY_S = 30.0
_TABLE = "CREATE TABLE IF NOT EXISTS scores (key BLOB PRIMARY KEY, value BLOB, checksum BLOB) WITHOUT ROWID"
_AT_ONCE = 500
_CHECK_BYTES = 8
_bypassed: ContextVar[bool] = ContextVar("cache_bypassed", default=False)
_repeat: ContextVar[int] = ContextVar("cache_repeat", default=0)


@contextmanager
def bypassed() -> Iterator[None]:
    """Within, in this thread and in what it has event loops run, no cache answers and none stores anything."""
    token = _bypassed.set(True)
    try:
        yield
    finally:
        _bypassed.reset(token)


@contextmanager
def repeated(number: int) -> Iterator[None]:
    """Within, as in `bypassed`, services are asked once more: results have keys, and judges seeds, of their own.

    Args:
        number: 0 for the first time, whose keys are those of a result that is asked for once.
    """
    token = _repeat.set(number)
    try:
        yield
    finally:
        _repeat.reset(token)


def cache_key(
    prompt: Sequence[Mapping[str, str]],
    responses: Sequence[str],
    *,
    template: str,
    scorer: str,
    version: str,
    seed: int,
    metadata: Mapping[str, object] | None = None,
) -> bytes:
    """SHA-256 of everything that a result hangs on, and of which time it is asked for (`repeated`).

    Args:
        prompt: the messages.
        responses: one, or the two of a comparison in their order.
        template: the template's name; "" for scorers without one.
        metadata: the prompt's, where the scorer sees it.
    """
    messages = [[message["role"], message["content"]] for message in prompt]
    parts = [messages, list(responses), template, scorer, version, seed, metadata]
    if number := _repeat.get():
        parts.append({"repeat": number})
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).digest()


class ScoreCache:
    """JSON values by key. Only results that are `ok` belong here: a failure must be tried again.

    An entry whose checksum does not fit is a miss, with a warning; so is every look-up in a file that SQLite cannot
    read. Several threads and processes of one machine may use a folder; SQLite's shared memory does not work over
    network file systems.

    Raises:
        ConfigError: the folder cannot be made or written.
    """

    def __init__(self, folder: Path | str) -> None:
        self._lock = threading.Lock()
        self.hits = self.misses = 0
        self._db: sqlite3.Connection | None = None
        try:
            self._path = Path(folder).expanduser() / FILE
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._db = self._open()
        except (OSError, RuntimeError, sqlite3.OperationalError) as error:
            raise ConfigError(f"cache: {folder}", str(error), "name a folder that can be written") from None
        except sqlite3.DatabaseError as error:
            self._give_up(error)

    def get(self, keys: Sequence[bytes]) -> list[object]:
        """The value of each key, None where there is none."""
        if _bypassed.get():
            return [None] * len(keys)
        found: dict[bytes, object] = {}
        for start in range(0, len(keys), _AT_ONCE):
            part = list(dict.fromkeys(keys[start : start + _AT_ONCE]))
            marks = ",".join("?" * len(part))
            query = f"SELECT key, value, checksum FROM scores WHERE key IN ({marks})"
            for key, value, check in self._rows(query, part):
                if (parsed := _checked(key, value, check)) is not None:
                    found[key] = parsed
        values = [found.get(key) for key in keys]
        misses = values.count(None)
        self.misses += misses
        self.hits += len(keys) - misses
        return values

    def put(self, entries: Mapping[bytes, object]) -> None:
        """Store values (JSON, not null); an existing one is replaced."""
        if _bypassed.get():
            return
        rows = []
        for key, value in entries.items():
            text = json.dumps(value).encode()
            rows.append((key, text, _checksum(key, text)))
        with self._lock:
            if self._db is None:
                return
            try:
                with self._db:
                    self._db.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?, ?)", rows)
            except sqlite3.DatabaseError as error:
                # What could not be stored is asked for again: slower, and nothing else.
                _log.warning("cache %s: %d results not stored: %s", self._path, len(rows), error)

    def close(self) -> None:
        with self._lock:
            if self._db is not None:
                self._db.close()
            self._db = None

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, timeout=BUSY_S, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode=WAL")
            # A power cut may lose the last results; none is half written.
            db.execute("PRAGMA synchronous=NORMAL")
            db.execute(_TABLE)
        except sqlite3.Error:
            db.close()
            raise
        return db

    def _rows(self, query: str, keys: list[bytes]) -> list[tuple[bytes, object, object]]:
        with self._lock:
            if self._db is None:
                return []
            try:
                return self._db.execute(query, keys).fetchall()
            except sqlite3.OperationalError as error:
                _log.warning("cache %s: %d results not looked up: %s", self._path, len(keys), error)
            except sqlite3.DatabaseError as error:
                self._db.close()
                self._give_up(error)
            return []

    def _give_up(self, error: sqlite3.DatabaseError) -> None:
        self._db = None
        _log.warning("cache %s is damaged and not used: %s; remove the file to start another", self._path, error)


def _checked(key: bytes, value: object, check: object) -> object:
    if isinstance(value, bytes) and check == _checksum(key, value):
        return json.loads(value)
    _log.warning("cache entry %s is damaged and counts as missing", key.hex()[:16])
    return None


def _checksum(key: bytes, value: bytes) -> bytes:
    return hashlib.blake2b(value, key=key[:64], digest_size=_CHECK_BYTES).digest()
