"""`rayalign serve`: pages of the runs in a folder, for people; reads files only, so it works on any run at any time."""

from __future__ import annotations

import contextlib
import secrets
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from types import FrameType

import uvicorn

from rayalign.commands.serving.app import make_app
from rayalign.commands.serving.events import Listeners
from rayalign.commands.serving.guard import Door, is_loopback
from rayalign.commands.serving.runs import Runs
from rayalign.errors import EXIT_OK, ConfigError

SHORTEST_TOKEN = 16
END_S = 2
"""So long open connections may take to end when the server is told to stop."""


def serve(runs_dir: str, host: str, port: int, token: str | None, say: Callable[[str], None]) -> int:
    """Serve until told to stop.

    Args:
        port: 0 takes a free one.
        token: asked of everyone; null asks for a made one where the address is not of this machine only.

    Raises:
        RunFolderError: there are no runs.
        ConfigError: the address cannot be taken, or the token is guessable.
    """
    runs = Runs(runs_dir)
    if token is not None and (len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable()):
        raise ConfigError(
            f"--token of {len(token)} characters",
            f"it must be {SHORTEST_TOKEN} printable ASCII characters or more, or it can be guessed",
            "leave it out: other hosts than this machine get a made one",
        )
    _load_libraries()
    loopback = is_loopback(host)
    token = token or (None if loopback else secrets.token_urlsafe(24))
    with _listening(host, port) as listening:
        listeners = Listeners()
        app = make_app(runs, Door(token, loopback), listeners, runs_dir)
        count = len(runs.names())
        say(f"{count} {'run' if count == 1 else 'runs'} of {runs_dir}: {_address(listening, host, token)}")
        say("Ctrl-C ends it")
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=END_S
        )
        _Server(config, listeners).run(sockets=[listening])
    return EXIT_OK


def _load_libraries() -> None:
    """What the first question would else wait for."""
    import duckdb  # noqa: F401
    import pandas as pd  # noqa: F401 - DuckDB loads it with the first table
    import pyarrow.compute
    import pyarrow.parquet  # noqa: F401


def _address(listening: socket.socket, host: str, token: str | None) -> str:
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listening.getsockname()[1]}/{f'?token={token}' if token else ''}"


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket at the address, which takes connections from now on; they wait until the server is up."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind)
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(address)
            found.listen()
        except BaseException:
            found.close()
            raise
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"--host {host} --port {port}: {getattr(error, 'strerror', None) or error}",
            "the server cannot listen there",
            "stop what listens there, or give another --port (0 takes a free one) or --host",
        ) from error
    with found:
        yield found


class _Server(uvicorn.Server):
    """A server that SIGINT and SIGTERM end in order, as a command that is done; the live pages are told first."""

    def __init__(self, config: uvicorn.Config, listeners: Listeners) -> None:
        super().__init__(config)
        self._listeners = listeners

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {one: signal.signal(one, self.handle_exit) for one in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        print("ending", file=sys.stderr, flush=True)
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._listeners.end()
        await super().shutdown(sockets)
