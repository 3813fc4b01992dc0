"""The run folder: the only source of truth of a run, written so that a kill at any moment loses nothing committed.

It is a local folder or a prefix of an object store (`folder`), where every file appears whole or not at all. A commit
(`commits/*.json` of a shard or stage, `COMMIT.json` of a round, written last) names files with size and SHA-256. A file
that no commit names does not exist: it is overwritten without a look.

    runs/<name>/config.yaml  run.json  metrics.jsonl  report.html  logs/
    runs/<name>/rounds/0003/prompts.parquet  samples/*.parquet  scores/*.parquet  groups/*.parquet  adapter/
    runs/<name>/rounds/0003/evaluation/{samples,scores}/*.parquet  report.json  commits/*.json  COMMIT.json
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import yaml

from rayalign.errors import RayalignError, RunFolderError
from rayalign.records import SCHEMA_VERSION, JsonObject
from rayalign.store.changes import bound_keys, differences, is_bound
from rayalign.store.files import Place, write_file, write_json
from rayalign.store.folder import Folder
from rayalign.store.folder_lock import FolderLock
from rayalign.store.round_dir import RoundDir
from rayalign.store.writable import check_writable

Complete = Callable[[JsonObject], JsonObject]
"""Gives a saved config the defaults of keys that the version which saved it did not know."""
LONGEST_REASON = 200
OLDEST_SCHEMA = 1
"""Folders of this schema version up to `SCHEMA_VERSION` are read and resumed."""
ROUND = re.compile("[0-9]{4}")
UNBEGUN = {"run.json", "logs", "cache", "metrics.jsonl", "report.html", "base", "held_out.parquet"}
"""What a run or a stage may have left that ended before it began; hidden files are nobody's."""


class RunDir:
    """A run's folder. `open` makes it or takes it up again.

    Args:
        forkable: whether the command that resumes it knows `--fork`.
    """

    def __init__(self, root: Place | str, *, forkable: bool = True) -> None:
        self.root = Folder(root)
        self._forkable = forkable
        self._lock = FolderLock(self.root)
        self._finished: set[int] = set()

    def round(self, index: int) -> RoundDir:
        root = (self.root / "rounds" / f"{index:04d}").fenced(self._lock.check)
        return RoundDir(root, index, self._lock.check)

    def rounds(self) -> list[RoundDir]:
        """All finished rounds, in order."""
        begun = self.begun_rounds()
        self._finished |= {r.index for r in begun if r.index not in self._finished and r.finished}
        return [r for r in begun if r.index in self._finished]

    def forget_finished(self) -> None:
        """Look again which rounds are finished: some were set aside."""
        self._finished.clear()

    def begun_rounds(self) -> list[RoundDir]:
        """All rounds that have a folder, in order, the unfinished one too."""
        names = (self.root / "rounds").names()
        return [self.round(int(name)) for name in names if ROUND.fullmatch(name)]

    @property
    def info(self) -> JsonObject:
        return self._object("run.json", json.loads)

    @cached_property
    def date(self) -> datetime.date:
        """The day on which the run was made, which chat templates are told; of a run that is not there yet, today."""
        attempts = self.info.get("attempts") or [{}]
        made = self.info.get("date") or attempts[0].get("started", "")[:10]
        return datetime.date.fromisoformat(made) if made else datetime.datetime.now(datetime.UTC).date()

    def update_info(self, **facts: object) -> None:
        self._lock.check()
        write_json(self.root / "run.json", {**self.info, **facts})

    @property
    def cache(self) -> Path | None:
        """Folder for the results of services that scorers call; null on an object store, where SQLite cannot work."""
        return self.root.local_path() / "cache" if self.root.is_local else None

    def saved_config(self) -> JsonObject | None:
        return self._object("config.yaml", _yaml) or None

    def _object(self, name: str, parse: Callable[[str], object]) -> JsonObject:
        """What stands in a file of the run; empty where there is none.

        Raises:
            RunFolderError: it is not what a run writes.
        """
        try:
            found = parse((self.root / name).find_text() or "{}")
        except (ValueError, yaml.YAMLError, OSError) as error:
            found = error
        if not isinstance(found, dict):
            raise RunFolderError(
                f"{self.root}/{name} is not a run's",
                " ".join(str(found).split())[:LONGEST_REASON] if isinstance(found, Exception) else "it is no mapping",
                "set another run.name, or restore the file",
            )
        return found

    def save_config(self, config: JsonObject) -> None:
        write_file(self.root / "config.yaml", yaml.safe_dump(config, sort_keys=False).encode())

    def open(self, config: JsonObject, complete: Complete = dict) -> None:
        """Make the folder, or take it up again under `config`. Arguments and errors as of `check`."""
        if not self.check(config, complete):
            self.update_info(schema_version=SCHEMA_VERSION, attempts=[], date=str(self.date))
        self.save_config(config)

    def committed_kinds(self) -> set[str]:
        """What there is of results: the kinds of the rounds' commits, or `stage` for what a training stage made."""
        kinds = {name.partition("-")[0] for round_dir in self.begun_rounds() for name in round_dir.commits()}
        trained = (self.root / "stage.json").exists() or (self.root / "checkpoints").names()
        return kinds | {"stage"} if trained else kinds

    def explain(self, error: RayalignError) -> None:
        """Add to an error's remedy what it takes to change a setting that it names and that results depend on."""
        if bound := bound_keys(error.remedy, self.saved_config() or {}, self.committed_kinds()):
            way = (
                "give --fork NAME with the change to go on"
                if self._forkable
                else "set another run.name with the change"
            )
            error.remedy += f" (what is done depends on {' and '.join(bound)}: {way})"

    @property
    def begun(self) -> bool:
        """Whether an attempt got as far as having all its actors, or rounds were copied here."""
        return bool(self.info.get("attempts") or (self.root / "rounds").names())

    def forget(self) -> None:
        """Undo `open` and `keep_inputs` of a run that has not begun."""
        self._lock.check()
        for name in ("config.yaml", "run.json", "held_out.parquet"):
            (self.root / name).delete()

    def check(self, config: JsonObject, complete: Complete = dict) -> bool:
        """Whether there is a run here, which `config` may then resume.

        Args:
            complete: applied to the saved config first (see `Complete`).

        Raises:
            RunFolderError: it cannot be written to, holds what no run made, or belongs to another config or to another
                schema version.
        """
        if self.root.is_local:
            check_writable(self.root.local_path())
        saved = self.saved_config()
        if saved is None or "schema_version" not in self.info:
            self.refuse_foreign(UNBEGUN)
            return False
        self.check_schema()
        committed = self.committed_kinds()
        changed = differences(complete(saved), config)
        if refused := [f"    {key}: {values}" for key, values in changed.items() if is_bound(key, committed)]:
            raise RunFolderError(
                f"{self.root} belongs to another config:\n" + "\n".join(refused),
                "resuming with other settings would mix two experiments",
                "set another run.name, or undo the change"
                + (", or give --fork NAME to go on under a new name" if self._forkable else ""),
            )
        return True

    def refuse_foreign(self, own: Collection[str]) -> None:
        """Refuse a folder that is no run's and not empty: a run would write over what is in it.

        Args:
            own: names of what may be there.

        Raises:
            RunFolderError: there is anything else, a `run.json` that no run wrote among it.
        """
        names = [name for name in self.root.names() if not name.startswith(".")]
        foreign = [
            name for name in names if name not in own or (name == "run.json" and "schema_version" not in self.info)
        ]
        if foreign:
            raise RunFolderError(
                f"{self.root} is no run's folder: it holds {', '.join(foreign[:5])}{', ...' if foreign[5:] else ''}",
                "a run has its config.yaml and run.json there, and would write over other files",
                "set another run.name or run.dir, or move these files away",
            )

    def check_schema(self) -> None:
        """Refuse a folder of a schema that this version does not know.

        Raises:
            RunFolderError: naming both versions.
        """
        version = self.info.get("schema_version", SCHEMA_VERSION)
        if isinstance(version, int) and OLDEST_SCHEMA <= version <= SCHEMA_VERSION:
            return
        reads = (
            f"schema_version {OLDEST_SCHEMA} to {SCHEMA_VERSION}"
            if OLDEST_SCHEMA < SCHEMA_VERSION
            else f"schema_version {SCHEMA_VERSION}"
        )
        newer = isinstance(version, int) and version > SCHEMA_VERSION
        raise RunFolderError(
            f"{self.root} has schema_version {version}",
            f"this rayalign reads {reads}" + ("; the folder was written by a newer one" if newer else ""),
            "upgrade rayalign" if newer else "use the rayalign version that made it (run.json names it)",
        )

    def keep_inputs(self, current: Mapping[str, object]) -> None:
        """Note what is read. Errors as of `check_inputs`."""
        self.check_inputs(current)
        self.update_info(inputs=current)

    def check_inputs(self, current: Mapping[str, object]) -> None:
        """Whether a resumed run reads what it read before.

        Raises:
            RunFolderError: something changed since.
        """
        saved = self.info.get("inputs", current)
        changed = [name for name, value in current.items() if saved.get(name, value) != value]
        if changed and self.committed_kinds():
            fork = self._forkable and "model_sha256" not in changed
            raise RunFolderError(
                f"{self.root}: {', '.join(changed)} changed since the run began",
                "resuming would mix two experiments (the tokens of prompts change with the model's chat template too)",
                "undo the change, or set another run.name"
                + (", or give --fork NAME to go on under a new name" if fork else ""),
            )

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for one process.

        Raises:
            RunFolderError: another process works on it.
        """
        with self._lock.held():
            yield

    @property
    def may_be_shared(self) -> bool:
        """Whether the folder is locked on a store that cannot refuse the second of two writers by itself."""
        return self._lock.may_be_shared


def _yaml(text: str) -> object:
    """What `yaml.safe_load` gives, ten times as fast where libyaml is there."""
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
