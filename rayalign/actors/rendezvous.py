"""How the workers of a Ray Train run become torch's process group: they meet at their own node's address alone.

Ray's own `TorchConfig` has torch open the port where they meet, which then listens on every address of the machine.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import tempfile
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import psutil
import ray
from ray import ObjectRef
from ray.train.torch import TorchConfig
from ray.train.torch.config import _set_torch_distributed_env_vars, _setup_torch_process_group, _TorchBackend

if TYPE_CHECKING:
    from ray.train._internal.base_worker_group import BaseWorkerGroup

_opened: list[object] = []
"""Where others meet this process, as long as it lives."""


@dataclass
class GroupConfig(TorchConfig):
    """What a trainer takes as its `torch_config`."""

    @property
    def backend_cls(self) -> type[_TorchBackend]:
        return _GroupBackend


class _GroupBackend(_TorchBackend):
    """Opens the meeting point on rank 0 and sends all ranks there; one rank alone meets itself in a file."""

    def on_start(self, worker_group: BaseWorkerGroup, backend_config: TorchConfig) -> None:
        assert backend_config.backend is not None
        world, where = len(worker_group), f"file://{tempfile.gettempdir()}/rayalign-group-{uuid.uuid4().hex}"
        worker_group.execute(_set_torch_distributed_env_vars)
        if world > 1:
            worker_group.execute(_meet_at, *worker_group.execute_single(0, _open_store, world))
            where = "env://"
        join = (_setup_torch_process_group, backend_config.backend)
        limit = backend_config.timeout_s
        joined = [worker_group.execute_single_async(rank, *join, rank, world, where, limit) for rank in range(world)]
        ray.get(cast("list[ObjectRef[None]]", joined))


def _open_store(world: int) -> tuple[str, int]:
    """Open torch's store for so many ranks in this process, on its node's address; returns where it listens."""
    from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

    host = ray.util.get_node_ip_address()
    family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    with socket.create_server((host, 0), family=family, backlog=max(128, 2 * world)) as server:
        port = server.getsockname()[1]
        # The store takes the file for its own.
        handed = os.dup(server.fileno())
    _opened.append(TCPStore(host, port, world, is_master=True, wait_for_workers=False, master_listen_fd=handed))
    return host, port


def _meet_at(host: str, port: int) -> None:
    """Have torch's `env://` go there, on rank 0 too, where it would otherwise open a store of its own."""
    os.environ |= {"MASTER_ADDR": host, "MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    for name, addresses in psutil.net_if_addrs().items():
        if any(one.address == ray.util.get_node_ip_address() for one in addresses):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
