"""Small models of the demo world that are made once, in a child process, and kept.

The child is `python -m MODULE SCRATCH SEED THREADS`, prints its steps and leaves the model in `SCRATCH/model`: what
TRL, accelerate and torch keep in their process (threads, device, random generators, environment, loggers) must not leak
into the caller, who may be a Ray actor.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from rayalign.errors import ModelError
from rayalign.scoring.definitions import definitions_digest
from rayalign.stopping import call
from rayalign.store.cache import cache_folder, made_once

Report = Callable[[int], object]
"""Called with the number of steps made."""
LANGUAGE = ("rayalign.demo.world", "rayalign.demo.language")
STAGES = (
    "rayalign.demo.training_rows",
    "rayalign.data.stage_rows",
    "rayalign.learning.row_order",
    "rayalign.learning.stage_training",
)
LIBRARIES = ("torch", "transformers", "tokenizers")
_STRIPPED_ENV = ("ACCELERATE_", "FSDP_", "DEEPSPEED_", "TORCHELASTIC_", "WANDB_", "MLFLOW_")
_STRIPPED_NAMES = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} | {
    "HF_DATASETS_CACHE",
    "HF_HUB_CACHE",
    "HF_MODULES_CACHE",
    "TRANSFORMERS_CACHE",
}


@dataclass(frozen=True)
class CachedModel:
    """One such model.

    Args:
        module: of its training; run as the child.
        what: the model in words; its folder's name begins with `demo-` and these words.
        steps: that the child makes.
        sources: modules whose definitions decide the weights, besides the child's own.
        libraries: whose versions decide the weights.
    """

    module: str
    what: str
    steps: int
    sources: Sequence[str] = LANGUAGE
    libraries: Sequence[str] = LIBRARIES

    def folder(self, cache: Path | None, seed: int, threads: int) -> Path:
        """The model's folder, made first if no process has done so before; a second process waits for the first.

        The folder's name holds a digest of everything that determines the weights: the sources, the seed, the thread
        count (it orders floating-point sums) and the library versions.

        Args:
            cache: folder of cached models; by default `$RAYALIGN_CACHE`, else `~/.cache/rayalign`.

        Raises:
            ModelError: the training process failed; its last words are in the message.
        """
        name = f"demo-{self.what.replace(' ', '-')}-{self._digest(seed, threads)}"
        folder = (cache or cache_folder()).expanduser().absolute() / name
        return made_once(folder, lambda scratch: self._train(scratch, seed, threads))

    def _digest(self, seed: int, threads: int) -> str:
        facts = {
            "sources": [definitions_digest(_file_of(module)) for module in (self.module, *self.sources)],
            "libraries": {name: version(name) for name in self.libraries},
            "seed": seed,
            "threads": threads,
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    def _train(self, scratch: Path, seed: int, threads: int) -> None:
        log = scratch / "train.log"
        command = [sys.executable, "-m", self.module, str(scratch), str(seed), str(threads)]
        with log.open("wb") as errors:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=_child_env(scratch, threads),
            )
            try:
                call(lambda: self._show_progress(child))
                child.wait()
            finally:
                child.kill()  # does nothing to a child that has ended
                child.wait()
        if child.returncode != 0:
            tail = log.read_text(encoding="utf-8", errors="replace")[-2000:].strip()
            raise ModelError(
                f"training the demo {self.what} ended with exit status {child.returncode}:\n{tail}",
                f"the demo makes its own small models, with {', '.join(self.libraries)} on the CPU",
                "check free memory and disk space, and that the environment holds the pinned library versions",
            )

    def _show_progress(self, child: subprocess.Popen[str]) -> None:
        """Draw a progress bar from the child's step numbers, one a line, until it closes its output."""
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        assert child.stdout is not None
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with child.stdout, Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task(f"Training the demo {self.what} (once, cached)", total=self.steps)
            for line in child.stdout:
                progress.update(task, completed=int(line))


def child_main(fit: Callable[[Path, int, int, Report], None]) -> None:
    """Train as the child of `CachedModel`: step numbers to stdout, everything the libraries say to stderr.

    Args:
        fit: (scratch folder, seed, threads, report); it leaves the model in `model` below the folder.
    """
    import torch

    scratch, seed, threads = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    steps = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    torch.set_num_threads(threads)
    # A parent that was killed closes the pipe: the next step number then ends this process.
    fit(scratch, seed, threads, lambda step: print(step, file=steps, flush=True))


def _child_env(scratch: Path, threads: int) -> dict[str, str]:
    """Return the child's environment: offline, on the CPU, outside a caller's distributed job, no files elsewhere."""
    stripped = [name for name in os.environ if name.startswith(_STRIPPED_ENV) or name in _STRIPPED_NAMES]
    env = {name: value for name, value in os.environ.items() if name not in stripped}
    package_root = str(Path(__file__).resolve().parents[2])
    return env | {
        "PYTHONPATH": os.pathsep.join(filter(None, (package_root, os.environ.get("PYTHONPATH")))),
        "PYTHONHASHSEED": "0",
        "HF_HOME": str(scratch / "hf"),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        # Threads that spin while they wait cost up to eight times the time where other processes share the cores.
        "OMP_WAIT_POLICY": "PASSIVE",
    }


def _file_of(module: str) -> Path:
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin)
