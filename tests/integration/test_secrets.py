"""A key that a service asks for is found nowhere afterwards, whatever stage the run ended in and whatever it said."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.http_server import Request, Respond, Server

pytestmark = [pytest.mark.slow, pytest.mark.integration]

SECRET = "sk-planted-5f1e0c77a91b4d3e"
STAGES = ("start", "sampling", "scores that fail", "killed", "done")
Behave = Callable[[Request], Respond]


def rewards(request: Request) -> Respond:
    return Respond({"scores": [{"id": one["id"], "reward": len(one["response"]) % 7} for one in request.body["items"]]})


def complaint(status: int) -> Respond:
    """As services do, with what they were sent."""
    return Respond({"error": {"message": f"invalid key {SECRET} in Bearer {SECRET}"}}, status=status)


def behaviour(stage: str) -> Behave:
    def behave(request: Request) -> Respond:
        assert request.headers["authorization"] == f"Bearer {SECRET}"
        if stage == "start" or (stage == "scores that fail" and request.number > 2):
            return complaint(401 if stage == "start" else 400)
        if stage == "sampling" and request.number > 2:
            return Respond(f"<html>{SECRET}".encode(), status=500)
        return rewards(request)

    return behave


def config_file(folder: Path, url: str) -> Path:
    config = {
        "run": {"name": "secret", "dir": str(folder / "runs"), "rounds": 1},
        "model": {"base": "demo"},
        "prompts": {"source": "demo", "per_round": 64, "holdout": 8},
        "sampling": {"responses": 2, "max_tokens": 16},
        "scoring": [
            {"type": "remote", "url": url, "api_key_env": "PLANTED",
             "limits": {"retries": 0, "timeout_s": 5}}
        ],
        "objective": {"type": "nca"},
        "evaluation": {"responses": 1},
        "groups": {"drop_equal_rewards": False},
    }  # fmt: skip
    place = folder / "secret.yaml"
    place.write_text(yaml.safe_dump(config))
    return place


def holding(folder: Path) -> list[str]:
    """Files that hold the key, also as base64 and in what is compressed inside Parquet, which has plain pages."""
    needles = [SECRET.encode(), SECRET.encode()[3:]]
    return [
        str(file.relative_to(folder))
        for file in folder.rglob("*")
        if file.is_file() and not file.is_symlink() and any(needle in file.read_bytes() for needle in needles)
    ]


@pytest.mark.parametrize("stage", STAGES)
def test_a_planted_key_is_found_nowhere(stage: str, demo_folder: Path, tmp_path: Path) -> None:
    ray = Path(os.environ.get("RAYALIGN_TEST_RAY", "/tmp")) / f"ra-secret-{os.getpid()}"
    server = Server(behaviour(stage))
    command = [sys.executable, "-m", "rayalign", "run", str(config_file(tmp_path, f"{server.url}/score"))]
    env = {**os.environ, "PLANTED": SECRET, "RAY_TMPDIR": str(ray)}
    ray.mkdir(exist_ok=True)
    try:
        process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if stage == "killed":
            folder = tmp_path / "runs" / "secret" / "rounds"
            while process.poll() is None and not (folder / "0001" / "commits").exists():
                try:
                    process.wait(timeout=0.2)
                except subprocess.TimeoutExpired:
                    continue
            process.terminate()
        output, _ = process.communicate(timeout=600)
        expected = {"done": {0}, "killed": {0, 3}, "start": {2}}.get(stage, {1, 2, 3})
        assert process.returncode in expected, output[-3000:]
        assert SECRET not in output and "sk-planted" not in output
        assert stage == "start" or server.requests
        for command in ("report", "status", "show"):
            if stage in ("killed", "done"):
                told = subprocess.run(
                    [sys.executable, "-m", "rayalign", command, str(tmp_path / "runs" / "secret")],
                    env=env, capture_output=True, text=True, check=False,
                )  # fmt: skip
                assert "sk-planted" not in told.stdout + told.stderr
        assert holding(tmp_path) == []
        assert holding(ray) == []
    finally:
        server.die()
        subprocess.run(["rm", "-rf", str(ray)], check=True)
