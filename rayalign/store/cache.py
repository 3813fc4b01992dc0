"""The cache: models that are made once on this machine, each in a folder of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rayalign.errors import ModelError
from rayalign.stopping import POLL_S, check


def cache_folder() -> Path:
    """Where models that were made here are kept: `$RAYALIGN_CACHE`, else `~/.cache/rayalign`.

    Raises:
        ModelError: the home folder that either names is unknown.
    """
    named = os.environ.get("RAYALIGN_CACHE")
    try:
        return Path(named or Path.home() / ".cache" / "rayalign").expanduser().absolute()
    except RuntimeError as error:
        raise ModelError(
            f"RAYALIGN_CACHE: {named}" if named else "there is no folder for the cache",
            str(error),
            "set RAYALIGN_CACHE to a whole path",
        ) from None


def is_made_here(folder: Path) -> bool:
    """Whether a model folder is one of the cache's."""
    return folder.parent == cache_folder()


def made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """The folder, made first if no process has done so before; a second process waits for the first.

    Args:
        make: called with a scratch folder; it leaves the model in `model` below it, which then becomes the folder.

    Raises:
        ModelError: the cache cannot be written.
    """
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.with_name(f".{folder.name}.lock")):
            if not folder.is_dir():
                _make(folder, make)
    except OSError as error:
        raise ModelError(
            f"{folder} cannot be written: {error}",
            "models that are made on this machine are kept there",
            "make room there, or let RAYALIGN_CACHE name a folder that can be written",
        ) from error
    return folder


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    while not lock.is_locked:
        check()
        with suppress(Timeout):
            lock.acquire(timeout=POLL_S)
    try:
        yield
    finally:
        lock.release()


def _make(folder: Path, make: Callable[[Path], None]) -> None:
    """Make into a scratch folder and rename the result; the caller holds the lock."""
    scratch = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(scratch, ignore_errors=True)  # left by a killed process: the lock says that nobody uses it
    scratch.mkdir()
    try:
        make(scratch)
        (scratch / "model").rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
