"""A run of the loop's own parts that its process leaves at any moment: `python -m tests.chaos.exits FOLDER`.

With `RAYALIGN_EXIT_AT=n` in its environment a run's process is gone at the n-th moment of a run, as by `kill -9`:
before a file is written, when half of it is, when all is and it has no name yet, when it has one; before and after a
file is removed or moved; before and after every stage. For each n a process forked from this one runs until there,
then others until the run is done. Prints one JSON line: the moments, and of each what the run then was.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from rayalign.config.run import RunConfig
from rayalign.loop.run import run_rounds
from rayalign.store import folder as store
from rayalign.store.run_dir import RunDir
from rayalign.store.verify import findings, mend
from tests.fakes import FakeProgress, FakeReporter, make_config, make_run

EXIT_AT = "RAYALIGN_EXIT_AT"
GONE = 9
CONFIGS: dict[str, RunConfig] = {
    "plain": make_config(run={"name": "fake", "rounds": 2}),
    "gate": make_config(
        run={"name": "fake", "rounds": 2},
        evaluation={"responses": 2, "gate": {"action": "restore_best"}},
    ),
    "stale": make_config(run={"name": "fake", "rounds": 3}, loop={"max_staleness": 1}),
}


class Moments:
    """Counts the moments, and ends the process at one of them."""

    def __init__(self) -> None:
        self.left = int(os.environ.get(EXIT_AT, "-1"))
        self.seen: list[str] = []

    def __call__(self, what: str) -> None:
        self.seen.append(what)
        if self.left == len(self.seen) - 1:
            os._exit(GONE)


class Half:
    """A file of which the first write puts only a half on the disk before the moment passes."""

    def __init__(self, file: IO[bytes], moment: Moments, name: str) -> None:
        self._file, self._moment, self._name, self._begun = file, moment, name, False

    def write(self, content: Any) -> int:
        content = bytes(content)
        if not self._begun and len(content) > 1:
            self._begun = True
            self._file.write(content[: len(content) // 2])
            self._file.flush()
            self._moment(f"half of {self._name}")
            return self._file.write(content[len(content) // 2 :]) + len(content) // 2
        return self._file.write(content)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def watch(moment: Moments) -> None:
    """From now on every write, removal and move of this process is a moment."""
    write, delete, move = store._writing_local, store.Folder.delete, store.Folder.move

    @contextmanager
    def writing(path: Path) -> Iterator[Any]:
        moment(f"before {path.name}")
        with write(path) as file:
            yield Half(file, moment, path.name)
            moment(f"{path.name} without a name")
        moment(f"after {path.name}")

    def removing(self: store.Folder) -> None:
        moment(f"before {self.name} goes")
        delete(self)
        moment(f"after {self.name} went")

    def moving(self: store.Folder, target: store.Folder) -> None:
        moment(f"before {self.name} moves")
        move(self, target)
        moment(f"after {self.name} moved")

    store._writing_local = writing
    store.Folder.delete, store.Folder.move = removing, moving  # type: ignore[method-assign]


class Reporter(FakeReporter):
    """Stages are moments too."""

    def __init__(self, moment: Moments) -> None:
        super().__init__()
        self._moment = moment

    @contextmanager
    def stage(
        self, name: str, round_index: int, total: int, done: int = 0, probe: Any = None
    ) -> Iterator[FakeProgress]:
        self._moment(f"before {name}")
        with super().stage(name, round_index, total, done, probe) as progress:
            yield progress
        self._moment(f"after {name}")


def run(root: Path, config: RunConfig, moment: Moments) -> None:
    import dataclasses

    made = make_run(root, config)
    mend(made.run_dir, lambda line: None)
    parts = made.parts
    reporter = Reporter(moment)
    parts.evaluator._reporter = reporter  # type: ignore[attr-defined]
    run_rounds(dataclasses.replace(made, parts=dataclasses.replace(parts, reporter=reporter)))


def forked(root: Path, config: RunConfig, at: int | None) -> tuple[int, int]:
    """Run in another process until a moment, or the end; how it ended and how many moments it had."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        os.environ.pop(EXIT_AT, None)
        if at is not None:
            os.environ[EXIT_AT] = str(at)
        moment = Moments()
        try:
            watch(moment)
            run(root, config, moment)
            os.write(writer, str(len(moment.seen)).encode())
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
    os.close(writer)
    told = os.read(reader, 32)
    os.close(reader)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), int(told or b"0")


def results(root: Path) -> str:
    """A hash of what the rounds made: answers and scores, adapters, and what was measured."""
    digest = hashlib.sha256()
    for one in RunDir(root).rounds():
        report = one.report() or {}
        digest.update(json.dumps([report["metrics"], report["trust"]], sort_keys=True).encode())
        for file in sorted(one.root.local_path().rglob("*")):
            # What was being written when a process went is hidden, and nobody's.
            if file.name[0] != "." and (file.suffix in (".parquet", ".safetensors") or file.parent.name == "adapter"):
                digest.update(str(file.relative_to(root)).encode() + file.read_bytes() if file.is_file() else b"")
    return digest.hexdigest()


def keys(root: Path) -> tuple[int, int]:
    """How many answers are committed, and how many different ones."""
    found = [
        (one.index, purpose, row.sample.prompt_id, row.sample.index)
        for one in RunDir(root).rounds()
        for purpose in ("train", "evaluation")
        for shard in one.shards(purpose)
        for row in one.read_shard(purpose, shard) or []
    ]
    return len(found), len(set(found))


def main(folder: Path, name: str, step: int) -> None:
    config = CONFIGS[name]
    code, moments = forked(folder / "whole", config, None)
    assert code == 0
    # Read in a process of their own: one that has threads of pyarrow must not fork.
    found: list[dict[str, Any]] = []
    for at in range(0, moments, step):
        root = folder / f"{at}"
        ended = [forked(root, config, at)[0], forked(root, config, None)[0]]
        found.append({"at": at, "ended": ended})
    wanted, counted = results(folder / "whole"), keys(folder / "whole")
    for one in found:
        root = folder / f"{one['at']}"
        one |= {"same": results(root) == wanted, "keys": keys(root) == counted and counted[0] == counted[1]}
        one["whole"] = not findings(RunDir(root))
    print(json.dumps({"moments": moments, "found": found}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
