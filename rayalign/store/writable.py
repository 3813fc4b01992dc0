"""Whether a folder can be made and written to, told before anything else is done."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rayalign.errors import RunFolderError, full_disk


def check_writable(folder: Path) -> None:
    """Try to write where a run's folder is or will be; nothing is left there, and an existing run folder is not
    touched.

    Raises:
        RunFolderError: a file is in the way, or the folder may not be written to.
    """
    with explained(folder):
        there = folder
        while not os.path.lexists(there):
            there = there.parent
        if not there.is_dir():
            raise NotADirectoryError(f"{there} is no folder")
        if there != folder:
            _try(there)
            return
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(f"{folder} may not be written to")


def _try(folder: Path) -> None:
    try:
        with tempfile.TemporaryDirectory(prefix=".rayalign-", dir=folder):
            pass
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from error


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """What the file system raises while a run's folder is made, as an error with a remedy."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise full_disk(error, folder) or RunFolderError(
            f"run.dir: {folder} cannot be made or written to",
            f"{error.filename}: {reason}" if error.filename else reason,
            "set run.dir to a folder that you may write to, or move away what is in the way",
        ) from error
