"""The files of a run that hold answers and prompts, read column by column, damaged ones told apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rayalign.errors import RayalignError
from rayalign.records import JsonObject
from rayalign.store.folder import Folder
from rayalign.store.held_out import HELD_OUT
from rayalign.store.round_dir import RoundDir, shard_name, shard_path
from rayalign.store.run_dir import RunDir

if TYPE_CHECKING:
    import pyarrow as pa

PROMPT_COLUMNS = ["id", "messages", "target", "metadata"]


class Damage(Exception):
    """A file of the run that cannot be read, in words."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One committed shard of answers."""

    purpose: str
    round: int
    number: int

    def __str__(self) -> str:
        return f"round {self.round}, {self.purpose} shard {self.number}"


def shards_of(round_dir: RoundDir, purpose: str) -> dict[Shard, int]:
    """A round's committed shards, each with the time at which it was committed (nanoseconds; 0 on an object store)."""
    found = {}
    for number in round_dir.shards(purpose):
        commit = round_dir.root / "commits" / f"{shard_name(purpose, number)}.json"
        found[Shard(purpose, round_dir.index, number)] = _changed(commit)
    return found


def _changed(place: Folder) -> int:
    try:
        return place.local_path().stat().st_mtime_ns if place.is_local else 0
    except FileNotFoundError:
        return 0


def read_shard(run_dir: RunDir, shard: Shard, kind: str, columns: list[str]) -> pa.Table:
    """Columns of a shard's `samples` or `scores`.

    Raises:
        Damage: the file is missing or damaged.
    """
    round_dir, relative = run_dir.round(shard.round), shard_path(shard.purpose, kind, shard.number)
    content = (round_dir.root / relative).find_bytes()
    if content is None:
        raise Damage(f"{shard}: its commit is there, but its {kind} are missing")
    if hashlib.sha256(content).hexdigest() != _committed_hash(round_dir, shard, relative):
        raise Damage(f"{shard}: its {kind} are not what was committed")
    import pyarrow as pa

    return _table(pa.BufferReader(content), columns, f"{shard}, {kind}")


def _committed_hash(round_dir: RoundDir, shard: Shard, relative: str) -> str:
    commit = shard_name(shard.purpose, shard.number)
    try:
        return json.loads((round_dir.root / "commits" / f"{commit}.json").read_text())["files"][relative]["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Damage(f"{shard}: its commit cannot be read") from error


def read_prompts(
    run_dir: RunDir, kind: str, round_index: int, only: Collection[str] | None = None
) -> list[JsonObject] | None:
    """The prompts of a round (`kind` train) or the held-out ones, metadata as an object; None where none are kept.

    Args:
        only: ids of those that are wanted; null wants all.

    Raises:
        Damage: the file is damaged.
    """
    if kind == "train":
        place, name = run_dir.round(round_index).root / "prompts.parquet", f"round {round_index}, prompts"
    else:
        place, name = run_dir.root / HELD_OUT, "held-out prompts"
    table = _read(place, PROMPT_COLUMNS, name)
    if table is None:
        return None
    try:
        rows = table.to_pylist() if only is None else rows_of(table, "id", only)
        return [{**row, "metadata": json.loads(row["metadata"] or "{}")} for row in rows]
    except (ValueError, TypeError) as error:
        raise Damage(f"{name}: {_words(error)}") from error


def rows_of(table: pa.Table, column: str, values: Collection[str]) -> list[JsonObject]:
    """The rows of a table whose column has one of these texts."""
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = pc.SetLookupOptions(pa.array(list(values), pa.string()))
    return table.filter(pc.call_function("is_in", [table[column]], wanted)).to_pylist()


def _read(place: Folder, columns: list[str], name: str) -> pa.Table | None:
    """Columns of a file; None where it is not there."""
    try:
        with place.reading() as file:
            return _table(file, columns, name)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, RayalignError) as error:
        raise Damage(f"{name}: the file is damaged ({_words(error)})") from error


def _table(file: pa.NativeFile, columns: list[str], name: str) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(file).read(columns=columns, use_threads=False)
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError, RayalignError) as error:
        raise Damage(f"{name}: the file is damaged ({_words(error)})") from error
    if missing := set(columns) - set(table.column_names):
        raise Damage(f"{name}: the file has no column {sorted(missing)[0]}")
    return table


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
