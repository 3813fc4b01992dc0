"""Debian's Prometheus scrapes a real run, and every panel of the Grafana dashboard has data."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

import pytest

from tests.integration.test_run import command, finish

pytestmark = [pytest.mark.integration, pytest.mark.slow]
PROMETHEUS = shutil.which("prometheus")
NEEDS_GPU = "Are the GPUs busy?"
NAME = "scraped"


def panels() -> list[dict[str, Any]]:
    board = json.loads((files("rayalign.dashboard") / "grafana" / "rayalign.json").read_text())
    return [panel for panel in board["panels"] if panel["type"] != "row"]


class Server:
    """Prometheus with nothing but what the targets of `folder` export."""

    def __init__(self, folder: Path) -> None:
        assert PROMETHEUS is not None
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{taken.getsockname()[1]}"
        scrape = {
            "job_name": "ray",
            "file_sd_configs": [{"files": [f"{folder}/.prometheus/*.json"], "refresh_interval": "1s"}],
        }
        config = {"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": [scrape]}
        (folder / "prometheus.yml").write_text(json.dumps(config))
        self.log = folder / "prometheus.log"
        arguments = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/prometheus",
                     f"--web.listen-address={self.address}"]  # fmt: skip
        with self.log.open("w") as log:
            self.process = subprocess.Popen([PROMETHEUS, *arguments], stdout=log, stderr=log)

    def series(self, query: str, since: float) -> list[dict[str, Any]]:
        """What `query` gave at any time since then."""
        times = f"start={since}&end={time.time()}&step=1"
        with urlopen(f"http://{self.address}/api/v1/query_range?query={quote(query)}&{times}", timeout=60) as reply:
            return json.load(reply)["data"]["result"]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=60)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    if PROMETHEUS is None:
        pytest.skip("prometheus is not installed (Debian: apt-get install prometheus)")
    started = Server(tmp_path)
    yield started
    started.stop()


def filled(query: str) -> str:
    """As Grafana fills it in with this run chosen."""
    return query.replace("$run", NAME).replace("$__rate_interval", "10s")


def test_every_panel_has_data(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_metrics_report_interval_ms", "1000")
    since = time.time()
    finish(subprocess.Popen(
        command(tmp_path, f"run.name={NAME}"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True, env=dict(os.environ),
    ))  # fmt: skip
    assert list((tmp_path / ".prometheus").iterdir()) == []
    empty = [
        (panel["title"], target["expr"])
        for panel in panels()
        for target in panel["targets"]
        if panel["title"] != NEEDS_GPU and not server.series(filled(target["expr"]), since)
    ]
    assert empty == [], server.log.read_text()
    # What it shows is what the run measured.
    report = json.loads((tmp_path / NAME / "rounds" / "0002" / "report.json").read_text())
    for name, metric in report["metrics"].items():
        (found,) = server.series(f'ray_rayalign_metric{{run="{NAME}", metric="{name}"}}', since)
        assert float(found["values"][-1][1]) == pytest.approx(metric["value"], rel=1e-6)
    labels = {
        label
        for one in server.series(f'{{__name__=~"ray_rayalign_.*", run="{NAME}"}}', since)
        for label in one["metric"]
    }
    own = {"run", "stage", "pool", "state", "scorer", "status", "metric", "le"}
    assert labels - own <= {
        "__name__",
        "otel_scope_name",
        "instance",
        "job",
        "SessionName",
        "NodeAddress",
        "WorkerId",
        "Version",
        "Component",
    }
