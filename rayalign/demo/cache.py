"""Small models of the demo world that are made once, in a child process, and kept.

The child is `python -m MODULE SCRATCH SEED THREADS` and leaves the model in `SCRATCH/model`: what torch and the
trainers keep in their process (threads, random generators, environment) must not leak into the caller.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

from rayalign.demo import models, world
from rayalign.errors import ModelError


@dataclass(frozen=True)
class CachedModel:
    """One such model.

    Args:
        module: of its training; run as the child.
        what: the model in words; its folder's name begins with `demo-` and these words.
        libraries: whose versions decide the weights.
    """

    module: str
    what: str
    libraries: Sequence[str]

    def folder(self, cache: Path | None, seed: int, threads: int) -> Path:
        """The model's folder, made first if no process has done so before; a second process waits for the first.

        The folder's name holds a digest of everything that determines the weights: the sources, the seed, the thread
        count (it orders floating-point sums) and the library versions.

        Args:
            cache: folder of cached models; by default `$RAYALIGN_CACHE`, else `~/.cache/rayalign`.

        Raises:
            ModelError: the training process failed; its last words are in the message.
        """
        from filelock import FileLock

        root = cache or Path(os.environ.get("RAYALIGN_CACHE") or Path.home() / ".cache" / "rayalign")
        name = f"demo-{self.what.replace(' ', '-')}-{self._digest(seed, threads)}"
        folder = Path(root).expanduser().absolute() / name
        if folder.is_dir():
            return folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            if not folder.is_dir():
                self._train_into(folder, seed, threads)
        return folder

    def _digest(self, seed: int, threads: int) -> str:
        own = Path(__file__).with_name(f"{self.module.rpartition('.')[2]}.py")
        files = (own, *(_source(module) for module in (models, world)))
        facts = {
            "sources": [hashlib.sha256(file.read_bytes()).hexdigest() for file in files],
            "libraries": {name: version(name) for name in self.libraries},
            "seed": seed,
            "threads": threads,
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    def _train_into(self, folder: Path, seed: int, threads: int) -> None:
        """Train into a scratch folder and rename the result to `folder`; the caller holds the lock."""
        scratch = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(scratch, ignore_errors=True)  # left by a killed process: the lock says that nobody uses it
        scratch.mkdir()
        command = [sys.executable, "-m", self.module, str(scratch), str(seed), str(threads)]
        print(f"Training the demo {self.what} (once, cached)", file=sys.stderr, flush=True)
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True, errors="replace", check=False, env=models._child_env(scratch, threads),
            )  # fmt: skip
            if done.returncode != 0:
                raise ModelError(
                    f"training the demo {self.what} ended with exit status {done.returncode}:\n{done.stdout[-2000:]}",
                    f"`model: demo` makes its own small model, with {', '.join(self.libraries)} on the CPU",
                    "check free memory and disk space, and that the environment holds the pinned library versions",
                )
            (scratch / "model").rename(folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _source(module: ModuleType) -> Path:
    assert module.__file__ is not None
    return Path(module.__file__)
