"""What vLLM is told of the devices that it may use, and whether the vLLM that is installed is for them."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from rayalign.config.cluster import GIB, EngineSection
from rayalign.errors import PlacementError
from rayalign.learning.engine_cache import CacheNeed, main_memory

if TYPE_CHECKING:
    from vllm import LLMEngine

PR_SET_PDEATHSIG = 1
SHARED = ("/dev/shm/psm_", "/dev/shm/vllm_dist_")
"""How the files of vLLM's shared memory begin."""

log = logging.getLogger(__name__)


def device_arguments(devices: EngineSection, need: CacheNeed | None = None, engines: int = 1) -> dict[str, object]:
    """Arguments of vLLM's `EngineArgs`, and the variables of this process that go with them.

    Args:
        need: what the cache of an engine on CPU is to hold; None where nobody knows.
        engines: processes of engines on this machine, this one's among them.

    Raises:
        PlacementError: vLLM's build is for other devices, or they have too little memory.
    """
    _check_build(devices)
    found: dict[str, object] = {}
    if devices.tensor_parallel > 1:
        found |= {"tensor_parallel_size": devices.tensor_parallel, "distributed_executor_backend": "mp"}
        # Else vLLM wants a NUMA node for each process.
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    if devices.gpus:
        share = _gpu_share(devices)
        return found if share is None else {**found, "gpu_memory_utilization": share}
    # The variable would take the argument's place.
    os.environ.pop("VLLM_CPU_KVCACHE_SPACE", None)
    return {**found, "kv_cache_memory_bytes": _cache_bytes(devices, need, engines)}


def _check_build(devices: EngineSection) -> None:
    """Refuse the build of another profile: the one for CUDA starts on GPU 0 whatever is asked of it."""
    from vllm.platforms import current_platform

    if devices.gpus and current_platform.is_cpu():
        raise PlacementError(
            f"an engine on {devices.gpus:g} GPU is asked for, and the vLLM that is installed is its CPU build",
            "that build knows no GPU",
            "pip install 'rayalign[gpu]' in a fresh environment, or set gpus to 0",
        )
    if not devices.gpus and not current_platform.is_cpu():
        raise PlacementError(
            "an engine on CPU is asked for (gpus: 0), and the vLLM that is installed is its build for GPUs",
            "that build knows no CPU engine, and would start on a GPU that others reserved",
            "set gpus to 1, or install the CPU profile in an environment of its own: make setup",
        )


def _gpu_share(devices: EngineSection) -> float | None:
    """The share of each GPU's memory for the engine; None leaves it to vLLM."""
    if devices.memory == "auto" or devices.memory <= 1:
        return devices.gpu_bytes(1)
    from vllm.platforms import current_platform

    whole = current_platform.get_device_total_memory()
    if (taken := devices.gpu_bytes(whole) or 0) > devices.part * whole:
        raise PlacementError(
            f"memory {devices.memory:g} GiB of a GPU with {whole / GIB:.1f} GiB, of which gpus {devices.gpus:g} "
            f"reserves {devices.part * whole / GIB:.1f} for this engine",
            "what is beyond belongs to others, or is not there",
            "lower memory, or give a share of the GPU's memory (a number up to 1)",
        )
    return taken / whole


def _cache_bytes(devices: EngineSection, need: CacheNeed | None, engines: int) -> int:
    """The key-value cache of one process on CPU."""
    machine, processes, memory = main_memory(), devices.tensor_parallel, devices.memory
    free = min(machine, psutil.virtual_memory().available)
    cache = devices.cache_bytes(machine)
    remedy = "free memory, or set memory lower: up to 1 is a share of the machine's memory, above that GiB"
    if need is not None and memory == "auto":
        cache = need.bytes_now(machine, engines, free)
        remedy = "free memory, or lower prompts.max_tokens and sampling.max_tokens: the longest sequence has to fit"
        if cache < need.bytes(machine, engines):
            log.warning("key-value cache: %s; %.1f GiB of memory are free", need.describe(cache), free / GIB)
    if processes * cache > free:
        raise PlacementError(
            f"memory {memory if memory == 'auto' else f'{memory:g}'} is a key-value cache of {cache / GIB:.1f} GiB for "
            f"each of {processes} processes",
            f"this machine has {free / GIB:.1f} GiB free of {machine / GIB:.1f}",
            remedy,
        )
    return int(cache)


def end_together(engine: LLMEngine) -> None:
    """Let the processes of an engine end with this one, however it ends, and leave nothing behind."""
    engine.collective_rpc(_end_with_parent)
    engine.collective_rpc(forget_shared_names)
    forget_shared_names()


def _end_with_parent(_worker: object) -> None:
    """Have the kernel end this process when the thread that started it ends: one that waits for another inside a
    collective would not see that its pipe is closed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def forget_shared_names(_worker: object = None) -> None:
    """Take the names from the memory that this process shares with the others of its engine: all have it open by now,
    and without a name it goes with the last of them. vLLM leaves it behind where a process is killed."""
    if sys.platform == "linux":
        for line in Path("/proc/self/maps").read_text().splitlines():
            name = line.rpartition(" ")[2]
            if name.startswith(SHARED):
                Path(name).unlink(missing_ok=True)
