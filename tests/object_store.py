"""An S3 server for tests: moto on loopback, in a process of its own, ended by its id."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from tests.processes import free_port

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}
BUCKET = "bucket"


class ObjectStore:
    """Started on construction with one bucket."""

    def __init__(self, log: Path) -> None:
        self.port = free_port()
        with log.open("wb") as file:
            command = [sys.executable, str(Path(__file__).with_name("s3_server.py")), str(self.port)]
            self._process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 60
        while True:
            try:
                self.make_bucket(BUCKET)
                return
            except (urllib.error.URLError, ConnectionError):
                assert self._process.poll() is None, log.read_text()[-2000:]
                assert time.monotonic() < deadline, "the S3 server does not answer"
                time.sleep(0.2)

    def make_bucket(self, name: str) -> None:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/{name}", method="PUT")
        # No proxy: the server is on this machine.
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=5).close()

    def uri(self, prefix: str, bucket: str = BUCKET) -> str:
        return s3_uri(f"{bucket}/{prefix}", self.port)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=20)


def s3_uri(path: str, port: int) -> str:
    return f"s3://{path}?endpoint_override=http://127.0.0.1:{port}&region=us-east-1"
