"""What is wrong with a service is said before anything is sampled; keys are named and never shown."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from rayalign.errors import ConfigError
from rayalign.scoring.services.transport import Key
from tests.http_server import Respond, Server
from tests.integration.ray_nodes import free_port
from tests.unit.service_cases import KEY, judge, remote, results, rewards, score


def test_check_says_what_is_wrong_before_anything_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    for make in (remote, judge):
        with make(nobody) as scorer, pytest.raises(ConfigError) as caught:
            scorer.check()
        assert nobody in caught.value.found
        assert "no connection" in caught.value.why and "nothing has been sampled" in caught.value.remedy
    with Server(rewards) as server:
        with remote(server.url) as scorer:
            scorer.check()
        with judge(server.url) as scorer:
            scorer.check()
        with judge(server.url, model="other") as scorer, pytest.raises(ConfigError) as caught:
            scorer.check()
        assert (caught.value.found, caught.value.remedy) == ("model: other", "it serves judge")
        server.models = Respond(b"<html>hello</html>")
        with judge(server.url) as scorer, pytest.raises(ConfigError, match="no list of models"):
            scorer.check()
        monkeypatch.setenv("JUDGE_KEY", KEY)
        server.models = Respond({"error": f"invalid key {KEY}"}, 401)
        with judge(server.url, key="JUDGE_KEY") as scorer, pytest.raises(ConfigError, match="HTTP 401") as caught:
            scorer.check()
        assert KEY not in str(caught.value)
    with (
        Server(lambda request: Respond({"hello": 1})) as server,
        remote(server.url) as scorer,
        pytest.raises(ConfigError, match="not the reply of a reward service"),
    ):
        scorer.check()


def test_a_missing_key_is_named_and_a_present_one_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in (None, "", "  "):
        monkeypatch.delenv("JUDGE_KEY", raising=False)
        if value is not None:
            monkeypatch.setenv("JUDGE_KEY", value)
        with pytest.raises(ConfigError, match="JUDGE_KEY"):
            Key("JUDGE_KEY")
    monkeypatch.setenv("JUDGE_KEY", KEY)
    key = Key("JUDGE_KEY")
    assert KEY not in repr(key) and KEY not in key.reason(f"wrong key {KEY}, {KEY}")


def test_the_example_server_speaks_the_wire_format() -> None:
    port = free_port()
    script = Path(__file__).parents[2] / "examples" / "reward_server.py"
    assert len(script.read_text().splitlines()) <= 32
    server = subprocess.Popen([sys.executable, script, str(port)], stderr=subprocess.DEVNULL)
    try:
        with remote(f"http://127.0.0.1:{port}/score") as scorer:
            deadline = time.monotonic() + 120
            while True:
                try:
                    scorer.check()
                    break
                except ConfigError:
                    assert time.monotonic() < deadline and server.poll() is None
            assert results(score(scorer, "cat", "", "a cat and a dog")) == [
                ("ok", 1 / 2),
                ("abstain", None),
                ("ok", 1 / 6),
            ]
    finally:
        server.kill()
        server.wait()
