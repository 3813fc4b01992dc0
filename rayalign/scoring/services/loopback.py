"""A judge behind an OpenAI-compatible address on loopback, for packages that know no other way to ask.

    package ─► POST /v1/chat/completions (token) ─► Caller (limits, retries) ─► Transport ─► the judge

It takes one random token, and keeps the judge's own key to itself. A call that failed gets an empty reply, which says
nothing, and its reason is kept.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import secrets
import threading
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from rayalign.records import JsonObject, Message
from rayalign.scoring.services.calls import Caller, Failure, LoopThread
from rayalign.scoring.services.transport import Reply, Transport

PATH = "/v1/chat/completions"
ROLES = ("system", "user", "assistant")
LONGEST_BODY = 64 * 2**20


class Loopback:
    """Serves while the block runs.

    Args:
        schema: of every reply.
        patience_s: for one question, its retries included.
    """

    def __init__(self, transport: Transport, caller: Caller, schema: JsonObject, patience_s: float = 3600.0) -> None:
        self._transport, self._caller, self._schema, self._patience_s = transport, caller, schema, patience_s
        self.token = secrets.token_urlsafe(32)
        self.asked = 0
        self.failures: list[str] = []
        self._loop = LoopThread("loopback")
        self._lock = threading.Lock()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._loop.run(self._transport.close())
        self._loop.close()

    def reply(self, messages: Sequence[Message]) -> Reply:
        """What the judge says; empty where it said nothing of use."""
        seed = int.from_bytes(hashlib.sha256(json.dumps(list(messages)).encode()).digest()[:4], "big") >> 1
        with self._lock:
            self.asked += 1
        try:
            reply = self._loop.run(self._ask(messages, seed))
            if reply.truncated:
                raise Failure("error", "a reply that was cut; it may lack its end")
        except Failure as failure:
            with self._lock:
                self.failures.append(failure.reason)
            return Reply("", False)
        return reply

    async def _ask(self, messages: Sequence[Message], seed: int) -> Reply:
        deadline = asyncio.get_running_loop().time() + self._patience_s
        return await self._caller.run(lambda: self._transport.complete(messages, self._schema, seed), deadline)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, loopback: Loopback) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.loopback = loopback


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server  # type: ignore[assignment]

    def log_message(self, format: str, *args: object) -> None:
        """The console stays quiet."""

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if self.path != PATH or not length.isdigit() or int(length) > LONGEST_BODY:
            self.close_connection = True
            return self._send(404, {"error": {"message": "there is nothing here"}})
        body = self.rfile.read(int(length))
        given = self.headers.get("Authorization", "").encode()
        if not hmac.compare_digest(given, f"Bearer {self.server.loopback.token}".encode()):
            return self._send(401, {"error": {"message": "another token is needed"}})
        if (messages := read_messages(body)) is None:
            return self._send(400, {"error": {"message": "no messages of roles and texts"}})
        return self._send(200, _completion(self.server.loopback.reply(messages)))

    def _send(self, status: int, value: JsonObject) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def read_messages(body: bytes) -> list[Message] | None:
    """The messages of a request; None where it has none that can be sent on."""
    try:
        request = json.loads(body)
    except ValueError:
        return None
    found = request.get("messages") if isinstance(request, Mapping) else None
    if not isinstance(found, list) or not found:
        return None
    texts = [(one.get("role"), one.get("content")) for one in found if isinstance(one, Mapping)]
    fits = len(texts) == len(found) and all(role in ROLES and isinstance(text, str) for role, text in texts)
    return [{"role": str(role), "content": str(text)} for role, text in texts] if fits else None


def _completion(reply: Reply) -> JsonObject:
    used = {"prompt_tokens": reply.input_tokens or 0, "completion_tokens": reply.output_tokens or 0}
    message = {"role": "assistant", "content": reply.text}
    return {
        "id": "judge",
        "object": "chat.completion",
        "created": 0,
        "model": "judge",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {**used, "total_tokens": sum(used.values())},
    }
