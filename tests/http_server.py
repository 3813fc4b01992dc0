"""A local HTTP server that does what a test tells it, well or badly; real sockets, threads of the test's process."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True)
class Request:
    path: str
    headers: dict[str, str]
    """Names in lower case."""
    body: Any
    number: int
    """0, 1, ... among all POSTs."""


@dataclass(frozen=True)
class Respond:
    body: Any
    """Bytes as they are, anything else as JSON."""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    cut: float = 1.0
    """Share of the announced body that is sent before the connection closes."""


@dataclass(frozen=True)
class Hang:
    """No reply until the server closes."""


@dataclass(frozen=True)
class Reset:
    """The connection ends without a reply."""


class Server(ThreadingHTTPServer):
    """Answers each POST with what `behave` returns; GET answers `models`.

    `requests`, `times` and `most_in_flight` tell what came.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, behave: Callable[[Request], Respond | Hang | Reset], models: Any = None, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.behave = behave
        self.models = Respond({"data": [{"id": "judge"}]}) if models is None else models
        self.requests: list[Request] = []
        self.times: list[float] = []
        self.in_flight = self.most_in_flight = 0
        self.lock, self.closing = threading.Lock(), threading.Event()
        self.connections: set[socket.socket] = set()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def die(self) -> None:
        """Stop listening and break every connection off, as a killed process does."""
        if self.closing.is_set():
            return
        self.closing.set()
        self.shutdown()
        self._thread.join()
        self.server_close()
        with self.lock:
            for connection in self.connections:
                _reset(connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.die()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server  # type: ignore[assignment]

    def setup(self) -> None:
        super().setup()
        with self.server.lock:
            self.server.connections.add(self.connection)

    def finish(self) -> None:
        with self.server.lock:
            self.server.connections.discard(self.connection)
        super().finish()

    def handle(self) -> None:
        try:
            super().handle()
        except (ConnectionError, OSError):
            self.close_connection = True  # the client went away, or the server died

    def log_message(self, format: str, *args: Any) -> None:
        """The console stays quiet."""

    def do_GET(self) -> None:
        self._send(self.server.models)

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        with self.server.lock:
            request = Request(self.path, headers, json.loads(raw), len(self.server.requests))
            self.server.requests.append(request)
            self.server.times.append(time.monotonic())
            self.server.in_flight += 1
            self.server.most_in_flight = max(self.server.most_in_flight, self.server.in_flight)
        try:
            action = self.server.behave(request)
            if isinstance(action, Hang):
                self.server.closing.wait()
                return
            if isinstance(action, Reset):
                _reset(self.connection)
                self.close_connection = True
                return
            time.sleep(action.delay_s)
        finally:
            with self.server.lock:
                self.server.in_flight -= 1
        self._send(action)

    def _send(self, action: Respond) -> None:
        body = action.body if isinstance(action.body, bytes) else json.dumps(action.body).encode()
        self.send_response(action.status)
        for name, value in {"Content-Type": "application/json", **action.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: int(len(body) * action.cut)])
        if action.cut < 1:
            self.close_connection = True


def _reset(connection: socket.socket) -> None:
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it is closed already


def completion(content: str | None, finish: str = "stop", tokens: tuple[int, int] | None = (100, 10)) -> Respond:
    """A chat completion."""
    usage = {} if tokens is None else {"usage": {"prompt_tokens": tokens[0], "completion_tokens": tokens[1]}}
    message = {"role": "assistant", "content": content}
    return Respond({"choices": [{"message": message, "finish_reason": finish}], **usage})
