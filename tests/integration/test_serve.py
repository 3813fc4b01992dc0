"""`rayalign serve` as a process of its own, beside a run that goes on, and against a hostile network."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from rayalign.commands.status import status
from rayalign.loop.run import run_rounds
from rayalign.store.run_dir import RunDir
from tests.fakes import Fuse, make_config, make_run
from tests.unit.answer_runs import make_run_folder

CONFIG = make_config(run={"name": "fake", "rounds": 2})
ODD = "odd %2e <b> é#?&"


class Gate(Fuse):
    """Lets the fake generator answer a shard only when it is opened."""

    def __init__(self) -> None:
        super().__init__()
        self._open = threading.Semaphore(0)

    def tick(self) -> None:
        self._open.acquire()

    def open(self, shards: int) -> None:
        self._open.release(shards)


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The server's address, and its process."""
    command = [sys.executable, "-m", "rayalign", "serve", str(folder), "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            found = re.search(r"http://\S+", server.stdout.readline())
            assert found is not None, server.stderr and server.stderr.read()
            yield found[0], server
        finally:
            server.kill()


def get(url: str, **headers: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def read(url: str) -> dict:
    code, content = get(url)
    assert code == 200, content
    return json.loads(content)


def raw(address: str, request: bytes) -> bytes:
    """What the server says to bytes that no client library would send."""
    place = urlsplit(address)
    with socket.create_connection((place.hostname or "", place.port or 0), timeout=20) as connection:
        connection.sendall(request)
        connection.settimeout(20)
        said = b""
        while piece := connection.recv(65536):
            said += piece
        return said


def next_event(stream: object) -> dict:
    while True:
        line = stream.readline().decode()  # pyright: ignore[reportAttributeAccessIssue]
        if line.startswith("data: "):
            return json.loads(line.removeprefix("data: "))


def test_beside_a_run_that_goes_on(
    tmp_path: Path, wait_for: Callable[[Callable[[], object], float], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Round by round the page shows more; nothing that the server does gets in the run's way."""
    root, gate = tmp_path / "runs" / "fake", Gate()
    run = make_run(root, CONFIG, gate)

    def work() -> None:
        with RunDir(root).lock():
            run_rounds(run)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        with serving(tmp_path / "runs") as (address, _):
            api = f"{address}api/runs/fake"
            assert read(f"{address}api/runs")[0]["state"] == "running"  # pyright: ignore[reportArgumentType]
            assert read(f"{api}/facets")["purposes"] == []
            status(str(root), print, watch=False, check=True, as_json=False)
            assert "fake: running, 0 of 2 rounds done" in capsys.readouterr().out
            with urllib.request.urlopen(f"{api}/events", timeout=60) as stream:
                assert next_event(stream) == {"rounds": 0, "state": "running"}
                wait_for(lambda: gate.open(1) or read(f"{api}/facets")["rounds"] == {"evaluation": [0]}, 60)
                assert read(f"{api}/prompts")["total"] in (32, 40)
                gate.open(1000)
                while (said := next_event(stream))["state"] == "running":
                    assert said["rounds"] <= 3
                assert said["state"] == "done"
            facets = read(f"{api}/facets")
            assert facets["rounds"] == {"evaluation": [0, 1, 2], "train": [1, 2]}
            rows = read(f"{api}/prompts?sort=gain&purpose=train")["rows"]
            view = read(f"{api}/prompts/{rows[0]['id']}?purpose=train")
            assert len(view["rounds"][0]["answers"]) == 4
            assert get(f"{address}runs/fake")[0] == 200
    finally:
        gate.open(1000)
        worker.join()
    status(str(root), print, watch=True, check=True, as_json=True)
    said = json.loads(capsys.readouterr().out)
    assert said["state"] == "done" and said["finished"] == [0, 1, 2] and said["damaged"] == []


def test_stops_in_order_while_pages_listen(tmp_path: Path) -> None:
    make_run_folder(tmp_path / "run")
    for told in (signal.SIGINT, signal.SIGTERM):
        with serving(tmp_path) as (address, server), urllib.request.urlopen(f"{address}api/runs/run/events") as stream:
            next_event(stream)
            began = time.monotonic()
            server.send_signal(told)
            assert server.wait(20) == 0
            assert time.monotonic() - began < 15
            assert server.stderr is not None and "Traceback" not in server.stderr.read()


def test_hostile_requests(tmp_path: Path) -> None:
    make_run_folder(tmp_path / "runs" / "run")
    make_run_folder(tmp_path / "runs" / ODD)
    make_run_folder(tmp_path / "secret")
    with serving(tmp_path / "runs") as (address, server):
        assert read(f"{address}api/runs/{quote(ODD, safe='')}/facets")["run"] == ODD
        assert get(f"{address}runs/{quote(ODD, safe='')}")[0] == 200
        for path in (
            b"/runs/..",
            b"/runs/../secret",
            b"/runs/../../secret/config.yaml",
            b"/runs/%2e%2e/secret",
            b"/runs/..%2fsecret",
            b"/runs/%252e%252e%252fsecret",
            b"/api/runs/../secret/facets",
            b"/api/runs/..%2fsecret/facets",
            b"/api/runs/run/prompts/..%2f..%2fconfig.yaml",
            b"//secret/",
            b"/runs/run%00",
            b"/runs/\xff\xfe",
        ):
            said = raw(address, b"GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % path)
            assert said.split(b" ")[1] in (b"404", b"400"), (path, said[:300])
            assert b"Traceback" not in said and b"run:" not in said
        for host in (b"evil.example", b"127.0.0.1.evil.example", b"[::1", b""):
            said = raw(address, b"GET /api/runs HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % host)
            assert said.split(b" ")[1] == b"421", said
        for garbage in (b"\x00\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n"):
            assert raw(address, garbage).split(b" ")[1] in (b"400", b"405", b"505")
        assert server.poll() is None and read(f"{address}api/runs/run/facets")["total"] == {"evaluation": 5}
    assert sorted(one.name for one in (tmp_path / "runs" / "run").iterdir()) == [
        "config.yaml",
        "held_out.parquet",
        "rounds",
        "run.json",
    ]


def test_other_hosts_need_the_token(tmp_path: Path) -> None:
    make_run_folder(tmp_path / "run")
    with serving(tmp_path, "--host", "0.0.0.0") as (address, _):
        place = urlsplit(address)
        here = f"http://127.0.0.1:{place.port}/"
        token = place.query.removeprefix("token=")
        assert len(token) >= 32 and get(f"{here}api/runs")[0] == 401
        assert get(f"{here}api/runs", Cookie=f"rayalign={token}")[0] == 200
        assert get(f"{here}api/runs", Cookie=f"rayalign={token[:-1]}")[0] == 401
