"""What every actor process does first: threads, usage reporting, and where its output goes."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from rayalign.errors import PlacementError
from rayalign.records import JsonObject

QUIET_ENV = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "VLLM_NO_USAGE_STATS": "1",
    "WANDB_ERROR_REPORTING": "false",
}
"""No library reports usage, in the driver and in the actors."""


def runtime_env(threads: int, *, gpu: bool, devices: Sequence[str] = ()) -> dict[str, dict[str, str]]:
    """Environment of an actor that may use `threads` cores.

    Args:
        devices: GPUs of another actor that it uses; Ray gives it none of its own.
    """
    env = {**QUIET_ENV, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    # Threads that spin while they wait take the cores from the actor whose turn it is.
    env["OMP_WAIT_POLICY"] = "PASSIVE"
    # Tensors in pages of 2 MB: fewer misses of the processor's address cache.
    env["THP_MEM_ALLOC_ENABLE"] = "1"
    if not gpu:
        # Ray leaves all GPUs visible to an actor that asked for none.
        env |= {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    if devices:
        env["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
    return {"env_vars": env}


def cpus_of(processes: int, each: float) -> float:
    """Logical CPUs of an actor with so many processes. Ray takes parts of one CPU, and beyond it whole ones."""
    cpus = processes * each
    return cpus if cpus <= 1 else float(int(cpus))


def check_torch(gpus: float, key: str) -> None:
    """Refuse a process that is to use a GPU and sees none, as under the CPU profile's torch.

    Raises:
        PlacementError: torch sees none.
    """
    if not gpus:
        return
    import torch

    if not torch.cuda.is_available():
        raise PlacementError(
            f"{key} is {gpus:g}, and torch {torch.__version__} sees no GPU here",
            "it is built for CPU" if torch.version.cuda is None else "the driver does not work (nvidia-smi)",
            f"pip install 'rayalign[gpu]' in a fresh environment, or set {key} to 0",
        )


def use_own_gpu() -> None:
    """Make the GPU that Ray gave this worker torch's current one; Ray Train shows it those of all on its node."""
    import torch
    from ray.train.torch import get_device

    device = get_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)


def redirect_output(log_folder: str, name: str) -> None:
    """Send this process's stdout and stderr, C libraries included, to `<log_folder>/<name>.log`.

    On a node that does not see the run folder, they stay in Ray's own session logs.
    """
    folder = Path(log_folder)
    if not folder.is_dir():
        return
    sys.stdout.flush()
    sys.stderr.flush()
    file = os.open(folder / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)


def describe_process(name: str) -> JsonObject:
    """This actor's name, its node and its process, and the GPUs that Ray gave it."""
    import ray

    context = ray.get_runtime_context()
    where = {"node_id": context.get_node_id(), "address": ray.util.get_node_ip_address(), "host": socket.gethostname()}
    gpus = context.get_accelerator_ids().get("GPU", [])
    return {"name": name, **where, "pid": os.getpid(), **({"gpus": gpus} if gpus else {})}


def die() -> None:
    """End this process, an actor's, so that another takes its place and gets what was not answered."""
    logging.shutdown()
    os._exit(1)
