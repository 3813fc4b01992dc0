"""The folder of a training stage: checkpoints while it is trained, then its result, which `stage.json` commits.

<run.dir>/<run.name>/config.yaml  run.json  logs/
<run.dir>/<run.name>/data/*.parquet  checkpoints/checkpoint-N/COMMIT.json      while it is trained
<run.dir>/<run.name>/adapter/  model/  stage.json                              once it is done
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

from rayalign.records import JsonObject
from rayalign.store.files import FileFacts, verify_file, write_json
from rayalign.store.folder import Folder

RESULTS = ("adapter", "model")
_CHECKPOINT = re.compile("checkpoint-([0-9]+)")


class StageDir:
    """A local folder, or one that all nodes mount."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    def rows(self, part: str) -> Path:
        """Token ids of the rows of `part` ("train" or "holdout")."""
        return self.root / "data" / f"{part}.parquet"

    def finished(self) -> JsonObject | None:
        """What `stage.json` says, its files verified; None where the stage is not done.

        Raises:
            RunFolderError: a file of the result is missing or has other content.
        """
        path = self.root / "stage.json"
        if not path.exists():
            return None
        facts = json.loads(path.read_text())
        for name, expected in facts["files"].items():
            verify_file(Folder(self.root / name), expected)
        return facts

    def finish(self, **facts: object) -> JsonObject:
        """Commit the result and remove what was needed only to get there."""
        files = [path for name in RESULTS for path in sorted((self.root / name).glob("**/*")) if path.is_file()]
        write_json(self.root / "stage.json", {**facts, "files": self._describe(files)})
        for folder in (self.checkpoints, self.root / "data", self.root / "logs" / "ray_train"):
            shutil.rmtree(folder, ignore_errors=True)
        return json.loads((self.root / "stage.json").read_text())

    def clear_result(self) -> None:
        """Remove what a killed process left of a result."""
        for name in RESULTS:
            shutil.rmtree(self.root / name, ignore_errors=True)

    def commit_checkpoint(self, checkpoint: Path) -> None:
        """Make a checkpoint one to resume from."""
        files = [path for path in sorted(checkpoint.iterdir()) if path.is_file()]
        write_json(checkpoint / "COMMIT.json", {"files": self._describe(files)})

    def latest_checkpoint(self) -> Path | None:
        """The newest checkpoint that is whole."""
        steps = {
            int(match[1]): path for path in self.checkpoints.glob("*") if (match := _CHECKPOINT.fullmatch(path.name))
        }
        for _, path in sorted(steps.items(), reverse=True):
            if self._whole(path):
                return path
        return None

    def _whole(self, checkpoint: Path) -> bool:
        commit = checkpoint / "COMMIT.json"
        if not commit.exists():
            return False
        files = json.loads(commit.read_text())["files"]
        return all(Folder(self.root / name).sha256() == facts["sha256"] for name, facts in files.items())

    def _describe(self, files: list[Path]) -> dict[str, FileFacts]:
        """Path -> size and hash, once the files are on the disk."""
        described: dict[str, FileFacts] = {}
        for path in files:
            with path.open("rb") as file:
                os.fsync(file.fileno())
            digest = Folder(path).sha256()
            assert digest is not None
            described[str(path.relative_to(self.root))] = {"bytes": path.stat().st_size, "sha256": digest}
        return described
