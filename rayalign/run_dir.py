"""The run folder: the only source of truth of a run, written so that a kill at any moment loses nothing committed.

It is a local folder or a prefix of an object store (`storage`), where every file appears whole or not at all. A commit
(`commits/*.json` of a shard or stage, `COMMIT.json` of a round, written last) names files with size and SHA-256. A file
that no commit names does not exist: it is overwritten without a look.

    runs/<name>/config.yaml  run.json  metrics.jsonl  report.html  logs/
    runs/<name>/rounds/0003/prompts.parquet  samples/*.parquet  scores/*.parquet  groups/*.parquet  adapter/
    runs/<name>/rounds/0003/evaluation/{samples,scores}/*.parquet  report.json  commits/*.json  COMMIT.json
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from rayalign.errors import RunFolderError
from rayalign.lease import Lease
from rayalign.records import SCHEMA_VERSION, Adapter, Prompt, Sample, ScoredSample
from rayalign.storage import Folder
from rayalign.tables import read_slice, write_table

Place = Folder | Path
Complete = Callable[[dict[str, Any]], dict[str, Any]]

RESUMABLE_CHANGES = ("cluster.", "tracking.", "limits.", "run.dir", "run.name")
"""Config keys that may differ when a run is resumed (a folder may be moved); `run.rounds` may also grow."""
OLDEST_SCHEMA = 1
"""Folders of this schema version up to `SCHEMA_VERSION` are read and resumed."""
ROUND = re.compile("[0-9]{4}")
PROMPTS_PER_ROW_GROUP = 1024


def write_file(path: Place, content: bytes) -> dict[str, Any]:
    """Write atomically and durably; return what a commit says of the file."""
    Folder(path).write_bytes(content)
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def write_json(path: Place, data: Any) -> None:
    write_file(path, (json.dumps(data, indent=1, sort_keys=True, allow_nan=False) + "\n").encode())


def verify_file(path: Folder, facts: dict[str, Any]) -> None:
    """Raises:
    RunFolderError: the file is missing or is not what its commit says.
    """
    found = path.sha256() or "no file"
    if found != facts["sha256"]:
        raise RunFolderError(
            f"{path}: {found}, but the commit says {facts['sha256']}",
            "the run folder was changed or damaged after the commit",
            "restore the file, or start a new run with another run.name",
        )


def parquet_bytes(rows: Sequence[dict[str, Any]], schema: Any) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), buffer)
    return buffer.getvalue()


def read_parquet(path: Place) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    return pq.ParquetFile(pa.BufferReader(Folder(path).read_bytes())).read(use_threads=False).to_pylist()


class RoundDir:
    """One round's folder.

    Args:
        before_commit: called before every commit; raises where this process may no longer write.
    """

    def __init__(self, root: Place, index: int, before_commit: Callable[[], None] | None = None) -> None:
        self.root = Folder(root)
        self.index = index
        self._before_commit = before_commit

    @property
    def relative(self) -> str:
        """This folder as seen from the run folder."""
        return f"rounds/{self.index:04d}"

    def _check_may_write(self) -> None:
        if self._before_commit is not None:
            self._before_commit()

    def for_reading(self) -> RoundDir:
        """The same folder without this process's lock, so that it can travel to processes that only read."""
        return RoundDir(self.root, self.index)

    # -- commits

    def commit(self, name: str, files: dict[str, dict[str, Any]], **facts: Any) -> None:
        """Make `files` (relative path -> size and hash) and `facts` part of the run, under `name`."""
        self._check_may_write()
        write_json(self.root / "commits" / f"{name}.json", {"files": files, **facts})

    def committed(self, name: str) -> dict[str, Any] | None:
        """What was committed under `name`, its files verified; None where nothing was.

        Raises:
            RunFolderError: a committed file is missing or has other content.
        """
        text = (self.root / "commits" / f"{name}.json").find_text()
        if text is None:
            return None
        data = json.loads(text)
        for relative, facts in data["files"].items():
            verify_file(self.root / relative, facts)
        return data

    def finish(self, **facts: Any) -> None:
        """Write `COMMIT.json`: the round is done."""
        self._check_may_write()
        head = json.dumps({"schema_version": SCHEMA_VERSION, **facts}, sort_keys=True, allow_nan=False)
        with (self.root / "COMMIT.json").writing() as file:
            # One commit at a time: a round may have many thousands.
            file.write(f'{head[:-1]}, "commits": {{'.encode())
            for place, name in enumerate(self.commits()):
                text = (self.root / "commits" / f"{name}.json").read_text()
                file.write(f"{',' if place else ''}\n{json.dumps(name)}: {text.rstrip()}".encode())
            file.write(b"\n}}\n")

    def commits(self) -> list[str]:
        """Names of all commits, sorted."""
        names = (self.root / "commits").names()
        return sorted(name.removesuffix(".json") for name in names if name.endswith(".json") and name[0] != ".")

    def commit_facts(self) -> dict[str, Any]:
        """`COMMIT.json` of a finished round."""
        return json.loads((self.root / "COMMIT.json").read_text())

    @property
    def finished(self) -> bool:
        return (self.root / "COMMIT.json").exists()

    # -- content

    def write(self, relative: str, content: bytes, rows: int | None = None) -> dict[str, dict[str, Any]]:
        """Write one file; returns the entry for `commit`."""
        facts = write_file(self.root / relative, content)
        return {relative: facts if rows is None else {**facts, "rows": rows}}

    def describe(self, relative: str) -> dict[str, dict[str, Any]]:
        """The entry for `commit` of a file that is already there."""
        content = (self.root / relative).read_bytes()
        return {relative: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}}

    def write_prompts(self, prompts: Iterable[Prompt]) -> None:
        rows = (prompt.to_row() for prompt in prompts)
        facts = write_table(self.root / "prompts.parquet", rows, Prompt.schema(), PROMPTS_PER_ROW_GROUP)
        self.commit("prompts", {"prompts.parquet": facts})

    def read_prompts(self, start: int, count: int) -> list[Prompt]:
        """A slice of the round's prompts, in the order they were drawn."""
        return [Prompt.from_row(row) for row in read_slice(self.root / "prompts.parquet", start, count)]

    def prompt_ids(self) -> list[str]:
        """Of all prompts of the round, in the order they were drawn."""
        import pyarrow.parquet as pq

        with (self.root / "prompts.parquet").reading() as file:
            return pq.ParquetFile(file).read(["id"])["id"].to_pylist()

    def commit_shard(self, purpose: str, shard: int, rows: Sequence[ScoredSample]) -> None:
        """Write a shard's samples and scores, then its commit."""
        files = {}
        for kind, table, schema in (
            ("samples", [row.sample.to_row() for row in rows], Sample.schema()),
            ("scores", [row.to_row() for row in rows], ScoredSample.schema()),
        ):
            files |= self.write(shard_path(purpose, kind, shard), parquet_bytes(table, schema), len(rows))
        self.commit(f"{purpose}-{shard:05d}", files, rows=len(rows))

    def read_shard(self, purpose: str, shard: int) -> list[ScoredSample] | None:
        """A committed shard; None where it is not committed."""
        if self.committed(f"{purpose}-{shard:05d}") is None:
            return None
        return read_scored(
            self.root / shard_path(purpose, "samples", shard), self.root / shard_path(purpose, "scores", shard)
        )

    def adapter(self) -> tuple[Adapter, dict[str, bytes]] | None:
        """The round's adapter and its files by name; None where none is committed. Raises as `committed`."""
        saved = None if self.index == 0 else self.committed("adapter")
        if saved is None:
            return None
        files = {posixpath.basename(name): (self.root / name).read_bytes() for name in saved["files"]}
        return Adapter(**saved["adapter"]), files

    def shards(self, purpose: str) -> list[int]:
        """Numbers of the shards that are committed."""
        found = (re.fullmatch(rf"{purpose}-([0-9]{{5,}})", name) for name in self.commits())
        return sorted(int(match[1]) for match in found if match)

    def report(self) -> dict[str, Any] | None:
        text = (self.root / "report.json").find_text()
        return None if text is None else json.loads(text)


def shard_path(purpose: str, kind: str, shard: int) -> str:
    folder = kind if purpose == "train" else f"{purpose}/{kind}"
    return f"{folder}/{shard:05d}.parquet"


def read_scored(samples: Place, scores: Place) -> list[ScoredSample]:
    pairs = zip(read_parquet(samples), read_parquet(scores), strict=True)
    return [ScoredSample.from_row(score, Sample.from_row(sample)) for sample, score in pairs]


class RunDir:
    """A run's folder. `open` makes it or takes it up again.

    Args:
        forkable: whether the command that resumes it knows `--fork`.
    """

    def __init__(self, root: Place | str, *, forkable: bool = True) -> None:
        self.root = Folder(root)
        self._forkable = forkable
        self._lease: Lease | None = None

    def round(self, index: int) -> RoundDir:
        return RoundDir(self.root / "rounds" / f"{index:04d}", index, self._check_lease)

    def rounds(self) -> list[RoundDir]:
        """All finished rounds, in order."""
        names = (self.root / "rounds").names()
        return [r for r in (self.round(int(name)) for name in names if ROUND.fullmatch(name)) if r.finished]

    @property
    def info(self) -> dict[str, Any]:
        return json.loads((self.root / "run.json").find_text() or "{}")

    def update_info(self, **facts: Any) -> None:
        self._check_lease()
        write_json(self.root / "run.json", {**self.info, **facts})

    @property
    def cache(self) -> Path | None:
        """Folder for the results of services that scorers call; null on an object store, where SQLite cannot work."""
        return self.root.local_path() / "cache" if self.root.is_local else None

    def saved_config(self) -> dict[str, Any] | None:
        text = (self.root / "config.yaml").find_text()
        return None if text is None else yaml.safe_load(text)

    def save_config(self, config: dict[str, Any]) -> None:
        write_file(self.root / "config.yaml", yaml.safe_dump(config, sort_keys=False).encode())

    def open(self, config: dict[str, Any], complete: Complete = dict) -> None:
        """Make the folder, or take it up again under `config`. Arguments and errors as of `check`."""
        if not self.check(config, complete):
            self.update_info(schema_version=SCHEMA_VERSION, attempts=[])
        self.save_config(config)

    def check(self, config: dict[str, Any], complete: Complete = dict) -> bool:
        """Whether there is a run here, which `config` may then resume.

        Args:
            complete: gives the saved config the defaults of keys that the version which saved it did not know.

        Raises:
            RunFolderError: it belongs to another config or to another schema version.
        """
        saved = self.saved_config()
        if saved is None:
            return False
        self.check_schema()
        if differences := refused_changes(complete(saved), config):
            raise RunFolderError(
                f"{self.root} belongs to another config:\n" + "\n".join(f"    {line}" for line in differences),
                "resuming with other settings would mix two experiments",
                "set another run.name, or undo the change"
                + (", or give --fork NAME to go on under a new name" if self._forkable else ""),
            )
        return True

    def check_schema(self) -> None:
        """Refuse a folder of a schema that this version does not know.

        Raises:
            RunFolderError: naming both versions.
        """
        version = self.info.get("schema_version", SCHEMA_VERSION)
        if isinstance(version, int) and OLDEST_SCHEMA <= version <= SCHEMA_VERSION:
            return
        reads = f"schema_version {OLDEST_SCHEMA} to {SCHEMA_VERSION}" if OLDEST_SCHEMA < SCHEMA_VERSION else \
            f"schema_version {SCHEMA_VERSION}"  # fmt: skip
        newer = isinstance(version, int) and version > SCHEMA_VERSION
        raise RunFolderError(
            f"{self.root} has schema_version {version}",
            f"this rayalign reads {reads}" + ("; the folder was written by a newer one" if newer else ""),
            "upgrade rayalign" if newer else "use the rayalign version that made it (run.json names it)",
        )

    def keep_inputs(self, current: dict[str, Any]) -> None:
        """Note what is read; a resumed run must read what it read before.

        Raises:
            RunFolderError: something changed since.
        """
        saved = self.info.get("inputs", current)
        if changed := [name for name, value in current.items() if saved.get(name, value) != value]:
            raise RunFolderError(f"{self.root}: {', '.join(changed)} changed since the run began",
                                 "resuming would mix two experiments", "undo it, or set another run.name")  # fmt: skip
        self.update_info(inputs=current)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for one process.

        Raises:
            RunFolderError: another process works on it.
        """
        with self._flock() if self.root.is_local else self._leased():
            yield

    @contextmanager
    def _flock(self) -> Iterator[None]:
        folder = self.root.local_path()
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunFolderError(f"{self.root} is in use by another process", "two writers would mix their rounds",
                                     "wait for it to end, stop it, or set another run.name") from None  # fmt: skip
            yield

    @contextmanager
    def _leased(self) -> Iterator[None]:
        lease = Lease(self.root / ".lock.json", self.root)
        lease.take()
        self._lease = lease
        try:
            yield
        finally:
            self._lease = None
            # A store that is away must not hide how the run ended: the lease then runs out.
            with suppress(RunFolderError):
                lease.release()

    def _check_lease(self) -> None:
        if self._lease is not None:
            self._lease.check()


def flatten(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dict -> dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def refused_changes(saved: dict[str, Any], config: dict[str, Any]) -> list[str]:
    """Differences between a run's config and the one it is resumed with that are not allowed."""
    old, new = flatten(saved), flatten(config)
    lines = []
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) == new.get(key) or key.startswith(RESUMABLE_CHANGES):
            continue
        if key == "run.rounds" and new[key] > old[key]:
            continue
        lines.append(f"{key}: {old.get(key)!r} -> {new.get(key)!r}")
    return lines
