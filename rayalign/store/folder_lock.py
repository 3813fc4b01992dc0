"""One process at a time on a run folder: a flock where it is local, a lease on an object store."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

from rayalign.errors import RunFolderError, StoreError
from rayalign.store.folder import Folder
from rayalign.store.lease import Lease
from rayalign.store.writable import explained


class FolderLock:
    """The lock of a run folder, which this process may or may not hold."""

    def __init__(self, root: Folder) -> None:
        self._root = root
        self._lease: Lease | None = None
        self._file: IO[str] | None = None

    @property
    def may_be_shared(self) -> bool:
        """Whether it is held on a store that cannot refuse the second of two writers by itself."""
        return self._lease is not None and not self._lease.atomic

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold it.

        Raises:
            RunFolderError: another process does.
        """
        with self._flock() if self._root.is_local else self._leased():
            yield

    def check(self) -> None:
        """Before every commit: whether the folder is still this process's; nothing where it does not hold it.

        Raises:
            StoreError: another process took it over, or it is gone.
        """
        if self._lease is not None:
            self._lease.check()
        if self._file is None:
            return
        with suppress(OSError):
            if os.path.samestat(os.fstat(self._file.fileno()), os.stat(self._file.name)):
                return
        raise StoreError(
            f"{self._root} is gone, or another folder is in its place",
            "it was moved or removed, or its disk is no more mounted there",
            "put it back, then run the same command again to go on from what was committed",
        )

    @contextmanager
    def _flock(self) -> Iterator[None]:
        folder = self._root.local_path()
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
            opened = (folder / ".lock").open("w")
        with opened as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunFolderError(
                    f"{self._root} is in use by another process",
                    "two writers would mix their rounds",
                    "wait for it to end, stop it, or set another run.name",
                ) from None
            self._file = file
            try:
                yield
            finally:
                self._file = None

    @contextmanager
    def _leased(self) -> Iterator[None]:
        lease = Lease(self._root / ".lock.json", self._root)
        lease.take()
        self._lease = lease
        try:
            yield
        finally:
            self._lease = None
            # A store that is away must not hide how the run ended: the lease then runs out.
            with suppress(RunFolderError):
                lease.release()
