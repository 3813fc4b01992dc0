"""The files of a run that hold answers and prompts, read column by column, damaged ones told apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from rayalign.dashboard.readings import section
from rayalign.errors import RayalignError
from rayalign.records import JsonObject
from rayalign.store.folder import Folder
from rayalign.store.held_out import HELD_OUT
from rayalign.store.round_dir import RoundDir, shard_name, shard_path
from rayalign.store.run_dir import RunDir

if TYPE_CHECKING:
    import pyarrow as pa

KEYS = ["prompt_id", "index"]
"""What tells the answers of a round apart."""
PROMPT_COLUMNS = ["id", "messages", "target", "metadata"]
READERS = 4
"""Shards that are read at the same time."""

T = TypeVar("T")


class Damage(Exception):
    """A file of the run that cannot be read, in words."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One committed shard of answers."""

    purpose: str
    round: int
    number: int
    changed: int = 0
    """When it was committed (nanoseconds; 0 on an object store)."""
    commit: Mapping[str, object] | None = field(default=None, compare=False, repr=False)
    """What its commit says; None where that has to be read."""

    def __str__(self) -> str:
        return f"round {self.round}, {self.purpose} shard {self.number}"


def shards_of(round_dir: RoundDir, purpose: str) -> list[Shard]:
    """A round's committed shards, in order: of a finished round by its `COMMIT.json`, which has all commits."""
    finished = _changed(round_dir.root / "COMMIT.json")
    found = []
    for name, told in sorted(round_dir.known_commits().items()):
        kind, _, number = name.rpartition("-")
        if kind != purpose or not number.isdecimal():
            continue
        changed = finished if told is not None else _changed(round_dir.root / "commits" / f"{name}.json")
        found.append(Shard(purpose, round_dir.index, int(number), changed, None if told is None else section(told)))
    return found


def _changed(place: Folder) -> int:
    try:
        return place.local_path().stat().st_mtime_ns if place.is_local else 0
    except FileNotFoundError:
        return 0


def read_each(read: Callable[[Shard], T], shards: Collection[Shard]) -> Iterator[tuple[Shard, T]]:
    """Every shard with what `read` gives for it, in their order; some are read at a time, for much of it is work that
    threads can share."""
    with ThreadPoolExecutor(READERS) as readers:
        yield from zip(shards, readers.map(read, shards), strict=True)


def read_answers(round_dir: RoundDir, shard: Shard, samples: list[str], scores: list[str]) -> tuple[pa.Table, pa.Table]:
    """Columns of a shard's samples and of its scores, row by row of the same answers; `KEYS` are among both.

    Raises:
        Damage: a file is missing or damaged, or they are of other answers.
    """
    found = read_shard(round_dir, shard, "samples", samples), read_shard(round_dir, shard, "scores", scores)
    if not found[0].select(KEYS).equals(found[1].select(KEYS)):
        raise Damage(f"{shard}: its samples and its scores are not of the same answers")
    return found


def read_shard(round_dir: RoundDir, shard: Shard, kind: str, columns: list[str]) -> pa.Table:
    """Columns of a shard's `samples` or `scores`.

    Raises:
        Damage: the file is missing or damaged.
    """
    import pyarrow as pa

    relative = shard_path(shard.purpose, kind, shard.number)
    facts = section(section(_commit(round_dir, shard).get("files")).get(relative))
    try:
        content = (round_dir.root / relative).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise Damage(f"{shard}: its commit is there, but its {kind} are missing") from None
    except OSError as error:
        raise Damage(f"{shard}: its {kind} cannot be read ({_words(error)})") from error
    if hashlib.sha256(content).hexdigest() != facts.get("sha256"):
        raise Damage(f"{shard}: its {kind} are not what was committed")
    return _table(pa.BufferReader(content), columns, f"{shard}, {kind}")


def _commit(round_dir: RoundDir, shard: Shard) -> Mapping[str, object]:
    if shard.commit is not None:
        return shard.commit
    name = shard_name(shard.purpose, shard.number)
    try:
        return section(json.loads((round_dir.root / "commits" / f"{name}.json").read_text()))
    except (OSError, ValueError) as error:
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
    wanted = frozenset(values)
    chosen = np.array([one in wanted for one in table[column].to_pylist()], bool)
    return table.filter(without_pandas(chosen)).to_pylist() if chosen.any() else []


def without_pandas(values: npt.NDArray[np.bool_ | np.int64]) -> pa.Array:
    """The values for pyarrow. Not by `pa.array`, which imports pandas: half a second for nothing."""
    import pyarrow as pa

    if values.dtype == np.bool_:
        return pa.Array.from_buffers(
            pa.bool_(), len(values), [None, pa.py_buffer(np.packbits(values, bitorder="little"))]
        )
    return pa.Array.from_buffers(pa.int64(), len(values), [None, pa.py_buffer(values)])


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
