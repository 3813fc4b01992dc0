"""One round's part of the run folder: its files, and the commits that name them."""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rayalign.errors import RunFolderError
from rayalign.records import (
    SCHEMA_VERSION,
    Adapter,
    AdapterFiles,
    Prompt,
    Sample,
    SavedAdapter,
    ScoredSample,
    weights_file,
)
from rayalign.store.files import Place, leaves, verify_file, write_file, write_json
from rayalign.store.folder import Folder
from rayalign.store.tables import parquet_bytes, read_parquet, read_slice, write_table

PROMPTS_PER_ROW_GROUP = 1024
REFUSED = "refused"
"""The name under which an adapter is committed that could not be proven to be served."""


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
        write_json(self.root / "commits" / f"{name}.json", sealed({"files": files, **facts}))

    def committed(self, name: str) -> dict[str, Any] | None:
        """What was committed under `name`, its files verified; None where nothing was.

        Raises:
            RunFolderError: a committed file is missing or has other content, or the commit itself is damaged.
        """
        data = self._commit(name)
        for relative, facts in data["files"].items() if data else ():
            if leaves(relative):
                raise RunFolderError(
                    f"{self.root}: the commit {name} names {relative}",
                    "that is outside of its round's folder: no run wrote it",
                    "do not trust this folder",
                )
            verify_file(self.root / relative, facts)
        return data

    def _commit(self, name: str) -> dict[str, Any] | None:
        place = self.root / "commits" / f"{name}.json"
        content = self.commit_bytes(name)
        found = None if content is None else read_commit(content)
        if content is not None and found is None:
            raise RunFolderError(
                f"{place} is damaged",
                "the run folder was changed or damaged after the commit",
                "let `rayalign verify RUN --repair` say what can be made again",
            )
        return None if found is None else {key: value for key, value in found.items() if key != SEAL}

    def commit_bytes(self, name: str) -> bytes | None:
        """A commit's file as it is; empty where it cannot be read, None where there is none."""
        try:
            return (self.root / "commits" / f"{name}.json").find_bytes()
        except OSError:
            return b""

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

    def commit_facts(self) -> dict[str, Any] | None:
        """`COMMIT.json` of a finished round; None where there is none, or one that is damaged or cannot be read."""
        try:
            found = json.loads((self.root / "COMMIT.json").find_bytes() or b"null")
        except (ValueError, OSError):
            return None
        return found if isinstance(found, dict) and isinstance(found.get("commits"), dict) else None

    def known_commits(self) -> dict[str, dict[str, Any] | None]:
        """The commits by name: of a finished round what `COMMIT.json` says of each, else None, to be read each."""
        return (self.commit_facts() or {}).get("commits") or dict.fromkeys(self.commits())

    @property
    def finished(self) -> bool:
        """Whether the round is done. One whose `COMMIT.json` cannot be read is not, and is finished once more."""
        return self.commit_facts() is not None

    @property
    def ended(self) -> bool:
        """Whether there is a `COMMIT.json`, whatever is in it."""
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

    def write_prompts(self, prompts: Iterable[Prompt], sampler: int | None = None, *, beside: bool = False) -> None:
        """Write and commit the round's prompts.

        Args:
            sampler: version of the adapter that is to answer them; null where nobody says.
            beside: whether the round before is not finished yet.
        """
        rows = (prompt.to_row() for prompt in prompts)
        facts = write_table(self.root / "prompts.parquet", rows, Prompt.schema(), PROMPTS_PER_ROW_GROUP)
        self.commit("prompts", {"prompts.parquet": facts}, sampler=sampler, beside=beside)

    def sampler(self) -> int | None:
        """Version of the adapter that answers the round's prompts; None where nobody said."""
        return (self._commit("prompts") or {}).get("sampler")

    def began_beside(self) -> bool:
        """Whether the round began before the one before it was finished."""
        return (self._commit("prompts") or {}).get("beside", False)

    def read_prompts(self, start: int, count: int) -> list[Prompt]:
        """A slice of the round's prompts, in the order they were drawn."""
        return [Prompt.from_row(row) for row in read_slice(self.root / "prompts.parquet", start, count)]

    def prompt_ids(self) -> list[str]:
        """The ids of the round's prompts, in the order they were drawn."""
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
        self.commit(shard_name(purpose, shard), files, rows=len(rows))

    def has_shard(self, purpose: str, shard: int) -> bool:
        """Whether a shard is committed. Raises as `committed`."""
        return self.committed(shard_name(purpose, shard)) is not None

    def samples_sha256(self, purpose: str, shard: int) -> str:
        """The checksum of a committed shard's samples."""
        saved = self.committed(shard_name(purpose, shard))
        assert saved is not None
        return saved["files"][shard_path(purpose, "samples", shard)]["sha256"]

    def read_shard(self, purpose: str, shard: int) -> list[ScoredSample] | None:
        """A committed shard; None where it is not committed."""
        if not self.has_shard(purpose, shard):
            return None
        return read_scored(
            self.root / shard_path(purpose, "samples", shard), self.root / shard_path(purpose, "scores", shard)
        )

    def adapter(self) -> SavedAdapter | None:
        """The round's adapter; None for the base and where none is committed yet. Raises as `committed`."""
        saved = None if self.index == 0 else self.committed("adapter")
        if saved is None:
            return None
        files = {posixpath.basename(name): (self.root / name).read_bytes() for name in saved["files"]}
        sha256 = hashlib.sha256(files[weights_file(files)]).hexdigest()
        return SavedAdapter(Adapter(**saved["adapter"]), AdapterFiles(self.index, sha256, files))

    def set_aside_adapter(self, **facts: Any) -> None:
        """Take the round's adapter back: its files stay as `refused` with `facts`, and it can be trained anew."""
        saved = self.committed("adapter")
        assert saved is not None
        self.commit(REFUSED, saved.pop("files"), committed=saved, **facts)
        (self.root / "commits" / "adapter.json").delete()

    def take_back_adapter(self) -> None:
        """Make the adapter that was set aside the round's again."""
        saved = self.committed(REFUSED)
        assert saved is not None
        self.commit("adapter", saved["files"], **saved["committed"])
        self.forget_refused()

    def forget_refused(self) -> None:
        """Forget the adapter that was set aside, whose files another one takes."""
        self._check_may_write()
        (self.root / "commits" / f"{REFUSED}.json").delete()

    def shards(self, purpose: str) -> list[int]:
        """Numbers of the shards that are committed."""
        found = (re.fullmatch(rf"{purpose}-([0-9]{{5,}})", name) for name in self.commits())
        return sorted(int(match[1]) for match in found if match)

    def report(self) -> dict[str, Any] | None:
        text = (self.root / "report.json").find_text()
        return None if text is None else json.loads(text)


SEAL = "check"
"""The key of a commit under which the hash of all the others stands; commits of older versions have none."""


def sealed(content: dict[str, Any]) -> dict[str, Any]:
    """What a commit holds, with its own hash."""
    plain = json.loads(json.dumps(content, allow_nan=False))
    return {**plain, SEAL: _seal(plain)}


def _seal(content: dict[str, Any]) -> str:
    rest = {name: value for name, value in content.items() if name != SEAL}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def read_commit(content: bytes) -> dict[str, Any] | None:
    """What a commit's file holds; None where it is damaged."""
    try:
        found = json.loads(content)
        return found if is_whole(found) else None
    except ValueError:
        return None


def is_whole(commit: object) -> bool:
    """Whether it is a commit, and its own hash that of the rest."""
    if not isinstance(commit, dict) or not isinstance(commit.get("files"), dict):
        return False
    facts = commit["files"].values()
    named = all(isinstance(one, dict) and {"bytes", "sha256"} <= one.keys() for one in facts)
    return named and commit.get(SEAL) in (None, _seal(commit))


def shard_name(purpose: str, shard: int) -> str:
    """The name of a shard's commit."""
    return f"{purpose}-{shard:05d}"


def shard_path(purpose: str, kind: str, shard: int) -> str:
    folder = kind if purpose == "train" else f"{purpose}/{kind}"
    return f"{folder}/{shard:05d}.parquet"


def read_scored(samples: Place, scores: Place) -> list[ScoredSample]:
    pairs = zip(read_parquet(samples), read_parquet(scores), strict=True)
    return [ScoredSample.from_row(score, Sample.from_row(sample)) for sample, score in pairs]
