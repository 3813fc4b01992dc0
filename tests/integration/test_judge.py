"""A judge behind a real `vllm serve` (CPU, the demo policy) as an OpenAI-compatible endpoint on loopback."""

from __future__ import annotations

import contextlib
import re
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rayalign.config.run import RunConfig
from rayalign.config.scoring import Scoring
from rayalign.errors import ConfigError
from rayalign.scoring.service_scorers import build_service, check_services
from rayalign.scoring.sources import ScorerSource
from tests.integration.conftest import small_config
from tests.integration.judge_server import KEY, MODEL, judge_server
from tests.processes import free_port
from tests.unit.judge_cases import prompt, samples

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture(scope="module")
def endpoint(demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    with judge_server(demo_folder, tmp_path_factory.mktemp("vllm") / "server.log", port):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_JUDGE_KEY", KEY)


def config(endpoint: str, **changes: Any) -> RunConfig:
    section = {
        "type": "judge", "transport": "openai", "base_url": f"{endpoint}/v1", "model": MODEL, "template": "rating",
        "reasons": False, "api_key_env": "TEST_JUDGE_KEY", "max_tokens": 32, "limits": {"concurrency": 12},
    }  # fmt: skip
    section |= changes
    return small_config(scoring=[section], objective={"type": "cut" if section["template"] == "cut" else "nca"})


def judge_of(config: RunConfig) -> Any:
    section: Scoring = config.scoring[0]
    return build_service(section, ScorerSource(), config.scorer_settings)


def running(endpoint: str) -> float:
    with urllib.request.urlopen(f"{endpoint}/metrics", timeout=5) as reply:
        found = re.findall(r"^vllm:num_requests_(?:running|waiting)\{.*\} (\S+)$", reply.read().decode(), re.MULTILINE)
    return sum(map(float, found))


def test_replies_are_really_constrained(endpoint: str) -> None:
    """The demo policy knows lists of animals and no JSON: unconstrained it gives no verdict, constrained one each; and
    so says the check."""
    owner = prompt("List two animals.")
    own = samples(owner, *(f"cat, dog {i}." for i in range(12)))
    scores: dict[bool, list[Any]] = {}
    for structured in (True, False):
        judge = judge_of(config(endpoint, structured=structured, temperature=1.0))
        with contextlib.nullcontext() if structured else pytest.raises(ConfigError, match="give no verdict"):
            judge.check()
        scores[structured] = judge.score([owner] * 12, own)
        judge.close()
    assert [score.status for score in scores[True]] == ["ok"] * 12
    assert {score.reward for score in scores[True]} <= set(map(float, range(1, 11)))
    assert [score.status for score in scores[False]] == ["error"] * 12
    assert {score.reward for score in scores[False]} == {None}
    assert all(score.latency_s > 0 for score in scores[True])


def test_pairs_are_compared_in_both_orders(endpoint: str) -> None:
    owner = prompt("List two animals.")
    judge = judge_of(config(endpoint, template="pairwise", prices={"input": 1.0, "output": 2.0}))
    scores = judge.score([owner] * 4, samples(owner, "cat", "dog", "cat, dog.", "blue"))
    judge.close()
    assert [score.status for score in scores] == ["ok"] * 4
    assert sum(score.reward for score in scores) == pytest.approx(2.0)
    assert [score.aspects["comparisons"] for score in scores] == [3.0] * 4
    assert all(score.cost > 0 for score in scores)


def test_requests_are_in_flight_together(endpoint: str) -> None:
    """Seen at the server: up to 12 at once, which is the limit, and never more."""
    owner = prompt("List two animals.")
    judge = judge_of(config(endpoint, template="cut", weight=0.0, max_tokens=200, temperature=1.0))
    seen, done = [0.0], threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.append(running(endpoint))
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    scores = judge.score([owner] * 48, samples(owner, *(f"cat {i}" for i in range(48))))
    done.set()
    watcher.join()
    judge.close()
    assert 6 <= max(seen) <= 12, max(seen)
    assert {(s.status, s.judgment is None, s.verdict is None) for s in scores} <= {
        ("ok", False, False), ("error", True, True),
    }  # fmt: skip
    print(f"most in flight {max(seen):g}, {sum(s.status == 'ok' for s in scores)} of 48 judgments complete")


def test_the_check_finds_a_wrong_model_and_a_wrong_key(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_services(config(endpoint).scorer_settings, [ScorerSource()])
    with pytest.raises(ConfigError, match=f"it serves {MODEL}"):
        check_services(config(endpoint, model="other").scorer_settings, [ScorerSource()])
    monkeypatch.setenv("TEST_JUDGE_KEY", "sk-wrong")
    with pytest.raises(ConfigError, match="HTTP 401") as caught:
        check_services(config(endpoint).scorer_settings, [ScorerSource()])
    assert "sk-wrong" not in str(caught.value)
