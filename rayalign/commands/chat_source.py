"""What `rayalign chat` talks to: a round of a run, or an export of one, with every checksum that is known checked."""

from __future__ import annotations

import datetime
import hashlib
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from rayalign.errors import ModelError, RunFolderError
from rayalign.launch.models import base_of
from rayalign.records import ADAPTER_CONFIG, ADAPTER_WEIGHTS, JsonObject
from rayalign.store.files import expanded
from rayalign.store.saved_run import SavedRun

RECORD = "export.json"
"""What an export says of itself: whose it is, how it is talked to, and the SHA-256 of its files."""
CARD = "README.md"
"""The one file of an export that people may edit before they talk to it."""
MODEL_FILES = ("adapter_config.json", "config.json")
AskedRound = int | Literal["best"] | None


@dataclass(frozen=True, slots=True)
class Spoken:
    """How a run's model is spoken to: its own settings of dtype, template and sampling."""

    dtype: str = "float32"
    template: str = "auto"
    date: str = ""
    """Of the run, for templates that ask for today's; empty is today."""
    max_tokens: int = 64
    temperature: float = 1.0
    top_p: float = 1.0

    @classmethod
    def of_run(cls, run: SavedRun) -> Spoken:
        sampling = run.config.get("sampling", {})
        known = {name: sampling[name] for name in ("max_tokens", "temperature", "top_p") if name in sampling}
        dtype = run.config["model"].get("dtype", cls.dtype)
        return cls(dtype=dtype, template=run.template, date=str(run.run_dir.date), **known)

    @classmethod
    def of_export(cls, record: JsonObject) -> Spoken:
        """An older export does not say them, and gets the defaults."""
        said = record.get("chat", {})
        return cls(**{field.name: said[field.name] for field in fields(cls) if field.name in said})

    @property
    def day(self) -> datetime.date:
        return datetime.date.fromisoformat(self.date) if self.date else datetime.datetime.now(datetime.UTC).date()


@dataclass(frozen=True, slots=True)
class ChatSource:
    """A model that was found and checked."""

    folder: Path
    """The base model, or a merged one."""
    adapter: dict[str, bytes] | None
    """Files of the adapter that `folder` gets, by name; None where the folder is all."""
    tokenizer: Path
    spoken: Spoken
    shown: str
    """What it is, for the user."""


def find_source(place: str, round_index: AskedRound, base: str | None) -> ChatSource:
    """The model of a run's round, or of an export.

    Args:
        place: a run's folder or URI, or the folder of an export.
        round_index: of a run; None is its last finished one.
        base: where the base model is now; None looks where run or export say.

    Raises:
        RunFolderError: no such run or round, a damaged export, or a folder that is neither.
        ModelError: the base model is not there, or is another one.
    """
    folder = expanded(place)
    if (folder / RECORD).is_file():
        return _of_export(folder, round_index, base)
    if found := [name for name in MODEL_FILES if (folder / name).is_file()]:
        raise RunFolderError(
            f"{place} has {found[0]}, but no {RECORD}",
            "it is a model or an adapter, but no export of rayalign: whose it is cannot be checked",
            "give a run folder, or the folder that `rayalign export` wrote, whole",
        )
    return _of_run(SavedRun.at(place), round_index, base)


def _of_run(run: SavedRun, round_index: AskedRound, base: str | None) -> ChatSource:
    round_dir, why = run.chosen(round_index)
    if round_dir.index > 0:
        _, record, adapter = run.adapter(round_dir.index)
        expected = record.base_model_sha256
        shown = f"round {round_dir.index}: adapter of checksum {record.sha256}"
    elif round_index == 0:
        adapter, expected = None, run.run_dir.info["inputs"]["model_sha256"]
        shown = f"round 0: the base model, checksum {expected}"
    else:
        raise RunFolderError(
            f"{run.run_dir.root}: round 0 alone is finished",
            "that is the base model, which has learned nothing",
            "let the run go on, or talk to the base model with --round 0",
        )
    folder, name = base_of(str(run.config["model"]["base"]), base, expected)
    lines = [*([why] if why else []), f"{run.name}, {shown}", f"base model: {name}"]
    return ChatSource(folder, adapter, folder, Spoken.of_run(run), "\n".join(lines))


def _of_export(folder: Path, round_index: AskedRound, base: str | None) -> ChatSource:
    record = _read_record(folder)
    exported = record["round"]
    if round_index not in (None, exported):
        raise RunFolderError(
            f"--round {round_index}: {folder} is an export of round {exported}",
            "an export holds one round",
            "leave --round out, or give the run's folder",
        )
    contents = _checked(folder, record["files"])
    spoken = Spoken.of_export(record)
    shown = f"{record['run']}, round {exported}: "
    if record["merged"]:
        if base is not None:
            raise ModelError(
                f"--base {base}: {folder} is a whole model", "nothing is added to a base", "leave --base out"
            )
        return ChatSource(folder, None, folder, spoken, f"{shown}a whole model, exported to {folder}")
    if contents.get(ADAPTER_WEIGHTS) != record["adapter_sha256"] or ADAPTER_CONFIG not in contents:
        raise _damaged(folder, f"its {ADAPTER_WEIGHTS} is not the adapter that it names")
    if base is None and record.get("base_model") is None:
        raise ModelError(
            f"{folder} names no base model",
            "it was trained on a folder of another machine, and was pushed without its name",
            f"give the folder with --base; its checksum is {record['base_model_sha256']}",
        )
    base_folder, name = base_of(str(record.get("base_model")), base, record["base_model_sha256"])
    adapter = {name: (folder / name).read_bytes() for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS)}
    shown += f"adapter of checksum {record['adapter_sha256']}, exported to {folder}\nbase model: {name}"
    return ChatSource(base_folder, adapter, folder, spoken, shown)


def _read_record(folder: Path) -> JsonObject:
    """`export.json`, with all that this needs of it."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        needed = ("run", "round", "merged", "adapter_sha256", "base_model_sha256", "files")
        missing = [name for name in needed if record.get(name) is None]
    except (OSError, ValueError, AttributeError) as error:
        raise _damaged(folder, f"{RECORD} cannot be read") from error
    if missing:
        raise _damaged(folder, f"{RECORD} does not say {', '.join(missing)}")
    return record


def _checked(folder: Path, digests: dict[str, str]) -> dict[str, str]:
    """The checksums of an export's files, which are those that it was written with."""
    for name, expected in digests.items():
        if name == CARD:
            continue
        path = folder / name
        if not path.is_file():
            raise _damaged(folder, f"{name} is missing")
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                raise _damaged(folder, f"{name} is not as it was exported")
    return digests


def _damaged(folder: Path, why: str) -> RunFolderError:
    return RunFolderError(f"{folder} is no whole export", why, "export the round again to another folder")
