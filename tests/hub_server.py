"""A hub on 127.0.0.1 that speaks as much of the Hugging Face protocol as pushing a folder takes.

Weights go through LFS (batch request, then a PUT), everything else inside the commit.
"""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class Hub(ThreadingHTTPServer):
    """`repos` holds what was committed: id -> path -> content.

    Args:
        token: the only one that may write.
        refuse: path -> status, answered whoever asks.
    """

    daemon_threads = True

    def __init__(self, token: str, refuse: dict[str, int] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.token, self.refuse = token, refuse or {}
        self.repos: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.uploads: dict[str, bytes] = {}
        self.asked: list[str] = []
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub  # type: ignore[assignment]

    def log_message(self, format: str, *args: Any) -> None:
        """The console stays quiet."""

    def do_GET(self) -> None:
        self._answer(404, {"error": "Repository not found"})

    def do_PUT(self) -> None:
        self.server.uploads[self.path.rpartition("/")[2]] = self._body()
        self._answer(200, {})

    def do_POST(self) -> None:
        body, path = self._body(), self.path.partition("?")[0]
        self.server.asked.append(path)
        if path in self.server.refuse:
            return self._answer(self.server.refuse[path], {"error": "no such luck"})
        if self.headers["Authorization"] != f"Bearer {self.server.token}":
            return self._answer(401, {"error": "Invalid username or password."})
        if path == "/api/validate-yaml":
            return self._answer(200, {"errors": [], "warnings": []})
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path.endswith("/preupload/main"):
            files = [{"path": f["path"], "shouldIgnore": False} for f in json.loads(body)["files"]]
            modes = [{**f, "uploadMode": "lfs" if f["path"].endswith(".safetensors") else "regular"} for f in files]
            return self._answer(200, {"files": modes})
        if path.endswith(".git/info/lfs/objects/batch"):
            upload = {"upload": {"href": f"{self.server.url}/upload/"}}
            objects = [
                {
                    "oid": o["oid"],
                    "size": o["size"],
                    "actions": {"upload": {"href": upload["upload"]["href"] + o["oid"]}},
                }
                for o in json.loads(body)["objects"]
            ]
            return self._answer(200, {"transfer": "basic", "objects": objects})
        if path.endswith("/commit/main"):
            return self._commit("/".join(path.split("/")[3:5]), body)
        return self._answer(404, {"error": f"unknown path {path}"})

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked.get('organization') or 'me'}/{asked['name']}"
        if name in self.server.repos:
            return self._answer(
                409, {"error": "You already created this model repo", "url": f"{self.server.url}/{name}"}
            )
        self.server.repos[name] = {}
        self.server.private[name] = asked.get("private", asked.get("visibility") == "private")
        return self._answer(200, {"url": f"{self.server.url}/{name}"})

    def _commit(self, name: str, body: bytes) -> None:
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                self.server.repos[name][value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.server.repos[name][value["path"]] = self.server.uploads[value["oid"]]
        self._answer(200, {"commitUrl": f"{self.server.url}/{name}/commit/{'0' * 40}", "commitOid": "0" * 40})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
