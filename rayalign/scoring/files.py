"""The files that a scorer's config names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rayalign.errors import DataError


def find_file(key: str, name: Path, folder: Path) -> Path:
    """The file `name`, looked up in the working directory, then in `folder`.

    Args:
        key: where the config names it, for the error.

    Raises:
        DataError: it is in neither.
    """
    candidates = list(dict.fromkeys([name, folder / name]))
    for path in candidates:
        if path.is_file():
            return path
    there = [path for path in candidates if path.exists()]
    raise DataError(
        f"{key}: {name}",
        f"{there[0]} is no file" if there else f"there is no such file{_tried(candidates)}",
        "name a file by its path from the working directory or from the config's folder",
    )


def find_folder(key: str, name: Path, folder: Path) -> Path:
    """The folder `name`. Arguments and errors as of `find_file`."""
    candidates = list(dict.fromkeys([name, folder / name]))
    for path in candidates:
        if path.is_dir():
            return path
    raise DataError(
        f"{key}: {name}",
        f"there is no such folder{_tried(candidates)}",
        "name a folder by its path from the working directory or from the config's folder",
    )


def read_text(key: str, path: Path) -> str:
    """The text of a file.

    Raises:
        DataError: it cannot be read, or is no UTF-8 text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{key}: {path} cannot be read", str(error), "save it as UTF-8 text") from None


def _tried(candidates: Sequence[Path]) -> str:
    return f": neither {' nor '.join(map(str, candidates))}" if len(candidates) > 1 else ""
