"""One process at a time on a run folder of an object store, where there is no flock: a lease that its holder renews."""

from __future__ import annotations

import json
import os
import platform
import threading
import time
import uuid

from rayalign.errors import RunFolderError, StoreError
from rayalign.records import JsonObject
from rayalign.stopping import sleep
from rayalign.store.conditional import Tag, conditional
from rayalign.store.folder import Folder

LEASE_S = 20.0
"""A lock that is not renewed for so long may be taken over; it is renewed five times as often."""


class Lease:
    """The lock object `{owner, host, pid, counter}`.

    Whoever finds a lock waits a little longer than a lease to see its counter move. On S3 it is then written only where
    it still is what was found (`conditional.py`): of several who come at once, one has it. Other stores promise no such
    thing through `pyarrow.fs`; there, whoever takes a lock reads it back after a moment. A holder that was held up for
    longer than a lease finds the other's name at its next commit, and stops.

    Raises:
        RunFolderError: from `take`: another process holds it; from `check`: another process took it over.
    """

    def __init__(self, path: Folder, folder: Folder, seconds: float | None = None) -> None:
        self._path, self._folder = path, folder
        self._seconds = LEASE_S if seconds is None else seconds
        self._own = {"owner": uuid.uuid4().hex, "host": platform.node(), "pid": os.getpid(), "counter": 0}
        self._object = conditional(path)
        self._lost = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True, name="run-folder-lease")

    def take(self) -> None:
        """Take the lock, waiting for a dead holder's to run out."""
        found, tag = self._read()
        deadline = time.monotonic() + 1.2 * self._seconds
        while found is not None and time.monotonic() < deadline:
            sleep(self._seconds / 10)
            now, tag = self._read()
            if now is not None and now != found:
                raise self._in_use(now)
            found = now
        if not self._claim(tag):
            raise self._in_use(self._read()[0])
        self._thread.start()

    @property
    def atomic(self) -> bool:
        """Whether the store sees to it that of several processes one has the lock."""
        return self._object is not None

    def check(self) -> Tag | None:
        """Called before every commit. A lock that is gone counts as lost: another may have come, written and left.

        Returns:
            The tag of the lock as it stands there.
        """
        found, tag = self._read()
        if found is None or found["owner"] != self._own["owner"]:
            self._lost = True
        if self._lost:
            raise StoreError(
                f"{self._folder} was taken over by {_who(found)}",
                f"this process did not renew its lock for {self._seconds:g} s, or somebody removed the lock",
                "see that only one process works on the folder, then run the same command again to go on",
            )
        return tag

    def release(self) -> None:
        """Stop renewing, and remove the lock if it is still this process's."""
        self._stop.set()
        self._thread.join()
        found, tag = self._read()
        if found is None or found["owner"] != self._own["owner"]:
            return
        if self._object is not None and tag is not None:
            self._object.delete(tag)
        else:
            self._path.delete()

    def _renew(self) -> None:
        while not self._stop.wait(self._seconds / 5):
            try:
                tag = self.check()
                self._own["counter"] += 1
                self._lost = not self._write(tag) or self._lost
            except RunFolderError:
                # A store that is away for a moment is tried again; a lock that is lost is told at the next commit.
                continue

    def _read(self) -> tuple[JsonObject | None, Tag | None]:
        """The lock that stands there, and its tag; None where there is none, or none that can be read."""
        if self._object is None:
            content, tag = self._path.find_bytes(), None
        else:
            content, tag = self._object.read() or (None, None)
        try:
            found = json.loads(content or b"null")
        except ValueError:
            return None, tag
        return (found if isinstance(found, dict) and {"owner", "host", "pid"} <= found.keys() else None), tag

    def _claim(self, found: Tag | None) -> bool:
        """Write the lock over what was found; whether it is this process's now."""
        try:
            if not self._write(found):
                return False
            if self._object is not None and self._object.refuses(self._content()):
                return True
        except NotImplementedError:
            pass
        # Nothing keeps another from writing at the same time: the last one has it.
        self._object = None
        self._write(None)
        sleep(self._seconds / 10)
        now, _ = self._read()
        return now is not None and now["owner"] == self._own["owner"]

    def _write(self, over: Tag | None) -> bool:
        """Whether the lock was still what it was, and is this process's now."""
        if self._object is None:
            self._path.write_bytes(self._content())
            return True
        return self._object.put(self._content(), over) is not None

    def _content(self) -> bytes:
        return json.dumps(self._own).encode()

    def _in_use(self, found: JsonObject | None) -> RunFolderError:
        return RunFolderError(
            f"{self._folder} is in use by {_who(found)}",
            "two writers would mix their rounds",
            "wait for it to end, stop it, or set another run.name",
        )


def _who(found: JsonObject | None) -> str:
    return "another process" if found is None else f"another process: pid {found['pid']} on {found['host']}"
