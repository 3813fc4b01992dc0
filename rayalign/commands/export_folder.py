"""The folder of an export: made beside its place and renamed, never written over anything else."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rayalign.commands.chat_source import RECORD
from rayalign.errors import ExportError
from rayalign.records import ADAPTER_CONFIG


def target_folder(to: str | os.PathLike[str]) -> Path:
    """The whole path of `--to`.

    Raises:
        ExportError: it names the home folder of a user whom nobody knows.
    """
    try:
        return Path(to).expanduser().absolute()
    except RuntimeError as error:
        raise ExportError(f"--to {to}", str(error), "write the folder's whole path") from None


def check_target(target: Path, identity: Mapping[str, object]) -> None:
    """Refuse a folder that holds anything but an earlier export of the same."""
    if not target.exists() and not target.is_symlink():
        return
    if not target.is_dir():
        raise ExportError(f"--to {target}", "there is a file, and an export is a folder", "give another place")
    present = {path.name for path in target.iterdir()}
    if not present:
        return
    remedy = "give an empty or new folder, or remove this one"
    try:
        saved = json.loads((target / RECORD).read_text(encoding="utf-8"))
        expected = {*saved["files"], RECORD}
    except (OSError, ValueError, KeyError, TypeError):
        raise ExportError(f"--to {target}", "the folder is not empty and holds no export", remedy) from None
    if different := [key for key, value in identity.items() if saved.get(key) != value]:
        raise ExportError(f"--to {target}", f"it holds another export ({', '.join(different)} differ)", remedy)
    changed = sorted(
        name for name, digest in saved["files"].items() if name in present and _sha256(target / name) != digest
    )
    if foreign := sorted(present - expected) + changed:
        raise ExportError(f"--to {target}", f"{', '.join(foreign)} were added or changed since it was exported", remedy)


@contextmanager
def beside(target: Path, identity: Mapping[str, object]) -> Iterator[Path]:
    """A folder that becomes `target` when all went well, and is removed else."""
    half, old = (target.with_name(f".{target.name}.{kind}-{os.getpid()}") for kind in ("new", "old"))
    try:
        half.mkdir(parents=True)
        yield half
        check_target(target, identity)
        if target.exists():
            target.rename(old)
        half.rename(target)
    except OSError as error:
        if old.exists() and not target.exists():
            old.rename(target)
        raise ExportError(
            f"--to {target}: {error.strerror or error}",
            "the folder cannot be written",
            "give a place that may be written and has room",
        ) from error
    finally:
        shutil.rmtree(half, ignore_errors=True)
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)


def describe(half: Path, record: Mapping[str, object]) -> None:
    """Write what the export says of itself, when all its other files are there."""
    digests = {path.name: _sha256(path) for path in sorted(half.iterdir())}
    text = json.dumps({**record, "files": digests}, indent=1, sort_keys=True)
    (half / RECORD).write_text(text + "\n", encoding="utf-8")


@contextmanager
def nameless(target: Path) -> Iterator[Path]:
    """An export as others may have it: it names no base, because that is a folder of this machine."""
    with tempfile.TemporaryDirectory(prefix="rayalign-push-") as name:
        copy = Path(name)
        for path in target.iterdir():
            (copy / path.name).symlink_to(path)
        record = json.loads((target / RECORD).read_text(encoding="utf-8"))
        if (config := target / ADAPTER_CONFIG).exists():
            facts = {**json.loads(config.read_text(encoding="utf-8")), "base_model_name_or_path": None}
            _replace(copy / ADAPTER_CONFIG, json.dumps(facts, indent=2, sort_keys=True))
        (copy / RECORD).unlink()
        describe(copy, {**record, "base_model": None})
        yield copy


def _replace(link: Path, text: str) -> None:
    link.unlink()
    link.write_text(text, encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
