"""lm-evaluation-harness on a round: its tasks looked at before anything starts, its process run on base and adapter.

section ─► child without a model ─► Harness, by the tasks' version ─► child with base and adapter ─► metrics
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from rayalign import stopping
from rayalign.config.benchmarks import LMEvalBenchmark
from rayalign.errors import ActorFailedError, ConfigError, DataError
from rayalign.evaluation.benchmarks.base import Result
from rayalign.evaluation.benchmarks.lm_eval_child import Settings
from rayalign.evaluation.benchmarks.lm_eval_results import harness_result
from rayalign.loop.benchmarks import digest
from rayalign.parts import Reporter
from rayalign.records import FULL_WEIGHTS, JsonObject, SavedAdapter
from rayalign.scoring.files import find_folder
from rayalign.store.benchmark_dir import BenchmarkDir, Marks
from rayalign.store.files import expanded

CHILD = "rayalign.evaluation.benchmarks.lm_eval_child"
PACKAGE = "lm_eval"
TOLD_LINES = 5
SEED = 0
"""Of the examples before questions, the same in every run."""
WEIGHT_ENDINGS = (".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json")


@dataclass(frozen=True, slots=True)
class Harness:
    """Tasks that can be run."""

    settings: Settings
    version: str
    """Of the tasks and their data."""


def read_lm_eval(section: LMEvalBenchmark, folder: Path, find: Callable[[str], object] = find_spec) -> Harness:
    """The tasks of a section, loaded once to see that they are there.

    Args:
        folder: where a relative path is looked up after the working directory.
        find: says whether a package is installed.

    Raises:
        ConfigError: the package is not installed, or a task cannot be used.
        DataError: a task's data are on the hub, which cannot be reached.
    """
    if find(PACKAGE) is None:
        raise ConfigError(
            f"{section.label}: lm-evaluation-harness is not installed",
            "type: lm_eval runs its tasks by that package",
            "pip install 'rayalign[lm-eval]'",
        )
    own = None if section.folder is None else find_folder(f"{section.label}: folder", expanded(section.folder), folder)
    settings = Settings(
        base=None,
        adapter=None,
        tasks=section.tasks,
        folder=None if own is None else str(own.absolute()),
        limit=section.limit,
        shots=section.shots,
        batch_size=section.batch_size,
        device=section.device,
        dtype=section.dtype,
        chat_template=section.chat_template,
        seed=SEED,
    )
    return Harness(settings, run_child(settings, section.label)["version"])


@dataclass(frozen=True, slots=True)
class HarnessRunner:
    """`Runner` of lm-evaluation-harness.

    Args:
        model: folder of the base.
    """

    name: str
    every: int
    harness: Harness
    model: Path
    reporter: Reporter
    type: str = "lm_eval"

    def marks(self, round_index: int, served: SavedAdapter) -> Marks:
        adapter = [served.record.base_model_sha256, served.record.sha256]
        mark = digest([self.harness.version, dict(self.harness.settings), adapter])
        return Marks(mark, mark)

    def run(self, place: BenchmarkDir, served: SavedAdapter) -> Result:
        tasks = self.harness.settings["tasks"]
        with (
            tempfile.TemporaryDirectory(prefix="rayalign-lm-eval-") as scratch,
            self.reporter.stage(f"{place.name} tasks", place.round_dir.index, len(tasks)) as progress,
        ):
            base, adapter = model_folders(self.model, served, Path(scratch))
            settings = Settings({**self.harness.settings, "base": str(base), "adapter": adapter and str(adapter)})
            reply = run_child(settings, self.name)
            progress.advance(len(tasks))
        return harness_result(reply, tasks)


def model_folders(model: Path, served: SavedAdapter, scratch: Path) -> tuple[Path, Path | None]:
    """(folder of a model, folder of the adapter on it): of a run that trains all weights these are the model."""
    if served.files is None:
        return model, None
    folder = scratch / "served"
    folder.mkdir()
    full = FULL_WEIGHTS in served.files.files
    for path in model.iterdir() if full else ():
        if path.is_file() and not path.name.endswith(WEIGHT_ENDINGS):
            (folder / path.name).symlink_to(path.resolve())
    for name, content in served.files.files.items():
        (folder / name).unlink(missing_ok=True)
        (folder / name).write_bytes(content)
    return (folder, None) if full else (model, folder)


def run_child(settings: Settings, label: str) -> JsonObject:
    """The reply of the package's process, which works in the folder of the tasks.

    Raises:
        ConfigError: a task cannot be used.
        DataError: a task's data are on the hub, which cannot be reached.
        ActorFailedError: the process failed, or the model did.
    """
    with tempfile.TemporaryDirectory(prefix="rayalign-lm-eval-") as folder:
        told, reply, log = (Path(folder) / name for name in ("settings.json", "reply.json", "log.txt"))
        told.write_text(json.dumps(settings))
        with log.open("wb") as output:
            code = _run([sys.executable, "-m", CHILD, str(told), str(reply)], output.fileno(), settings["folder"])
        if code or not reply.exists():
            raise _failed(f"{label}: lm-evaluation-harness ended with code {code}", log)
        found = json.loads(reply.read_text())
        if "error" in found:
            raise _refused(label, settings, found["error"]["kind"], found["error"]["said"], log)
        return found


def _refused(label: str, settings: Settings, kind: str, said: str, log: Path) -> Exception:
    tasks = ", ".join(settings["tasks"])
    if kind == "hub":
        return DataError(
            f"{label}: the data of {tasks} cannot be had from the hub",
            said,
            "check the network, HF_HUB_OFFLINE and HF_ENDPOINT, or write tasks on local files (folder: DIR)",
        )
    if kind == "tasks":
        remedy = f"see `{PACKAGE} ls tasks`, or name those in folder"
        return ConfigError(f"{label}: tasks {tasks} cannot be used", said, remedy)
    return _failed(f"{label}: {said}", log)


def _failed(found: str, log: Path) -> ActorFailedError:
    lines = log.read_text(errors="replace").strip().splitlines()
    print("\n".join(lines), file=sys.stderr)
    told = " / ".join(line.strip() for line in lines[-TOLD_LINES:])
    return ActorFailedError(found, told or "it said nothing", "see the driver's log for all it said")


def _run(command: list[str], output: int, folder: str | None) -> int:
    """Run a process in a session of its own to its end; returns its code."""
    # The child works elsewhere, where a relative path to this package would lead nowhere.
    paths = [str(Path(path).absolute()) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "TOKENIZERS_PARALLELISM": "false"},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )
    try:
        while process.poll() is None:
            stopping.sleep(stopping.POLL_S)
        return process.returncode
    finally:
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()
