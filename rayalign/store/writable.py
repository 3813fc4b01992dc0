"""Whether a folder can be made and written to, told before anything else is done."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rayalign.errors import RayalignError, RunFolderError, full_disk

RUN_DIR = "set run.dir to a folder that you may write to, or move away what is in the way"
COPY = "make it writable, or name a copy of the run folder in a place where you may write"
"""What to do where a run's folder is to be made, or a finished one added to."""


def check_writable(folder: Path, found: str = "run.dir: {}", remedy: str = RUN_DIR) -> None:
    """Try to write where a folder is or will be; nothing is left there, and an existing one is not touched.

    Args:
        found, remedy: see `explained`.

    Raises:
        RunFolderError: a file is in the way, or the folder may not be written to.
    """
    with explained(folder, found, remedy):
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
def explained(
    folder: Path | str, found: str = "run.dir: {}", remedy: str = RUN_DIR, kind: type[RayalignError] = RunFolderError
) -> Iterator[None]:
    """What the file system raises while a folder or file is made or written, as an error with a remedy.

    Args:
        found: how the error names it; by default as a run's folder.
        kind: of the error; a full disk has its own.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise full_disk(error, folder) or kind(
            f"{found.format(folder)} cannot be made or written to",
            f"{error.filename}: {reason}" if error.filename else reason,
            remedy,
        ) from error
