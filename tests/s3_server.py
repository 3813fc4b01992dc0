"""moto's S3 on a port of loopback, one request at a time: `python s3_server.py PORT`.

Amazon's S3 looks at a put's condition and makes the put in one step. moto answers in threads and looks first.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

_app, _lock = DomainDispatcherApplication(create_backend_app), threading.Lock()


def one_at_a_time(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    with _lock:
        return list(_app(environ, start_response))


if __name__ == "__main__":
    run_simple("127.0.0.1", int(sys.argv[1]), one_at_a_time, threaded=True)
