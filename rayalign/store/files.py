"""One file that appears whole or not at all, with its size and SHA-256."""

from __future__ import annotations

import hashlib
import json
import math
import os
import posixpath
from pathlib import Path

from rayalign.errors import RunFolderError
from rayalign.records import JsonValue
from rayalign.store.folder import Folder


def json_value(value: object) -> JsonValue:
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
    unwrap = getattr(value, "tolist", None)
    return json_value(str(value) if unwrap is None else unwrap())


Place = Folder | Path
FileFacts = dict[str, int | str]
"""What a commit says of a file: its `bytes` and `sha256`, and of a table its `rows`."""


def expanded(path: str) -> Path:
    """A path to read from, `~` resolved. One of a user whom nobody knows stays as it is, and then is not there."""
    return Path(os.path.expanduser(path))


def write_file(path: Place, content: bytes) -> FileFacts:
    """Write atomically and durably; return what a commit says of the file."""
    Folder(path).write_bytes(content)
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def write_json(path: Place, data: object) -> None:
    write_file(path, (json.dumps(data, indent=1, sort_keys=True, allow_nan=False) + "\n").encode())


def leaves(relative: str) -> bool:
    """Whether a path leads out of the folder that it counts from."""
    return posixpath.isabs(relative) or ".." in posixpath.normpath(relative).split("/")


def verify_file(path: Folder, facts: FileFacts) -> None:
    """Raises:
    RunFolderError: the file is missing, cannot be read, or is not what its commit says.
    """
    try:
        found = path.sha256() or "no file"
    except OSError as error:
        found = f"cannot be read ({error.strerror or type(error).__name__})"
    if found != facts["sha256"]:
        raise RunFolderError(
            f"{path}: {found}, but the commit says {facts['sha256']}",
            "the run folder was changed or damaged after the commit",
            "restore the file, or let `rayalign verify RUN --repair` say what can be made again",
        )
