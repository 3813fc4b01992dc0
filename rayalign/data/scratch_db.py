"""A database that lasts as long as the object which holds it: what a source has too much of for memory."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

Value = str | bytes | int | float | None
"""What SQLite can store."""
CACHE_KIB = 16 << 10
"""How much of the database stays in memory."""


class ScratchDb:
    """In SQLite's cache, and in an unnamed temporary file where it is large. Threads may share one.

    Args:
        schema: statements that make its tables.
    """

    def __init__(self, schema: str) -> None:
        self._lock = threading.Lock()
        self._db = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=OFF")
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
        self._db.executescript(schema)

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction; nobody else reads or writes meanwhile."""
        with self._lock:
            self._db.execute("BEGIN")
            yield self._db
            self._db.execute("COMMIT")

    def all(self, query: str, values: Sequence[Value] = ()) -> list[tuple]:
        with self._lock:
            return self._db.execute(query, values).fetchall()

    def each(self, query: str) -> Iterator[tuple]:
        """The rows one by one; nobody else may use the database until the last one."""
        with self._lock:
            yield from self._db.execute(query)
