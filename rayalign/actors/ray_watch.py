"""Ray's processes that a driver does not outlive: the raylet of its machine and the control service of the head.

Without the first, or the second for a minute, Ray's C code ends the driver, with exit code 1 and without a word. Here
they are looked at from a thread, so that the command ends before with what happened and how to go on.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil
import ray
import ray._private.worker as ray_worker

from rayalign.stopping import lose

POLL_S = 2
CONNECT_S = 5
"""How long the head may take to let a connection in."""
SHARE = 0.75
"""Of the time that Ray waits for its head."""
PATIENCE = "RAY_gcs_rpc_server_reconnect_timeout_s"
"""Ray's setting of it; 60 where it is not set."""


@contextmanager
def watched(*, own: bool) -> Iterator[None]:
    """Meanwhile the Ray that this process has started (`own`) or joined is looked at."""
    over = threading.Event()
    threading.Thread(target=_watch, args=(over, own), daemon=True, name="ray-watch").start()
    try:
        yield
    finally:
        over.set()


def _watch(over: threading.Event, own: bool) -> None:
    host, port = ray.get_runtime_context().gcs_address.rsplit(":", 1)
    limit_s = SHARE * float(os.environ.get(PATIENCE, "60"))
    raylet, heard = _raylet(), time.monotonic()
    while not over.is_set():
        if _ended(raylet):
            found, why = "Ray's processes on this machine have ended", "the driver does its work through them"
            break
        with suppress(OSError), socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S):
            heard = time.monotonic()
        if time.monotonic() - heard > limit_s:
            found, why = f"Ray's head at {host} has not answered for {limit_s:.0f} s", "a cluster ends with its head"
            break
    else:
        return
    if not over.is_set():
        lose(found, why, "" if own else "start Ray there again, then ")


def _raylet() -> select.poll:
    """What tells of the end of this machine's raylet; of nothing on systems without such a thing, or without it."""
    node, told = ray_worker._global_node, select.poll()
    name = node and node.raylet_socket_name
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError, AttributeError):
            if process.name() == "raylet" and any(word.endswith(f"={name}") for word in process.cmdline()):
                told.register(os.pidfd_open(process.pid), select.POLLIN)
    return told


def _ended(raylet: select.poll) -> bool:
    """Whether it has, looked at for a while."""
    return bool(raylet.poll(POLL_S * 1000))
