"""A scorer that costs is asked only where the others disagree; the others' time comes off that of services."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rayalign.demo.rules import demo_rule
from rayalign.records import NOT_ASKED, Prompt, Sample, ScoredSample
from rayalign.scoring.scorers import Scorers
from rayalign.scoring.sources import SourceReaders, read_sources
from tests.fakes import make_config
from tests.http_server import Request, Respond, Server
from tests.unit.judge_cases import prompt, samples

RULES = """
import time

def length(prompt, response): return None if response == "?" else float(len(response))

def capitals(prompt, response):
    if response == "!": raise ValueError("no")
    return float(sum(letter.isupper() for letter in response))

def slow(prompt, response):
    time.sleep(SECONDS)
    return 0.0
"""


def no_model(name: str) -> tuple[Path, str]:
    raise AssertionError(f"{name} was asked for")


@contextmanager
def scorers(folder: Path, *scoring: dict[str, Any], **sections: Any) -> Iterator[Scorers]:
    config = make_config(scoring=list(scoring), **sections)
    made = Scorers(config.scorer_settings, read_sources(config.scoring, folder, SourceReaders(no_model, demo_rule)))
    try:
        yield made
    finally:
        made.close()


def rule(folder: Path, function: str, seconds: float = 0.0, **more: Any) -> dict[str, Any]:
    (folder / "rules.py").write_text(RULES.replace("SECONDS", str(seconds)))
    return {"type": "rule", "function": f"{folder}/rules.py:{function}", **more}


def asked(server: Server, **more: Any) -> dict[str, Any]:
    return {"type": "remote", "url": f"{server.url}/score", "ask": {"differ_by": 1.0}, **more}


def sevens(request: Request) -> Respond:
    """7 for all but what cannot be rated."""
    entries = [
        {"id": item["id"], "reward": None if item["response"] == "aaaa" else 7.0} for item in request.body["items"]
    ]
    return Respond({"scores": entries})


def of_scorer(rows: list[ScoredSample], place: int) -> list[tuple[str, float | None]]:
    return [(row.scores[place].status, row.scores[place].reward) for row in rows]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_only_what_is_undecided_is_asked_about(tmp_path: Path, place: int) -> None:
    """Length against capitals: A 1 1, AB 2 2, aB 2 1 agree; abc 3 0 differs; ? abstains, ! fails; aaaa gets no reward.

    Wherever the asked scorer stands in the config.
    """
    owner = prompt()
    texts = ["A", "abc", "AB", "?", "aB", "!", "aaaa"]
    with Server(sevens) as server:
        scoring = [rule(tmp_path, "length"), rule(tmp_path, "capitals")]
        scoring.insert(place, asked(server))
        with scorers(tmp_path, *scoring) as made:
            rows = made.score([owner], samples(owner, *texts))
        sent = [item["response"] for request in server.requests for item in request.body["items"]]
    assert sent == ["abc", "?", "!", "aaaa"]
    assert [row.reward for row in rows] == [2.0, 14.0, 4.0, 14.0, 3.0, 14.0, None]
    assert [row.scores[place].status for row in rows] == ["abstain", "ok"] * 3 + ["abstain"]
    assert [row.scores[place].reason for row in rows][::2] == [NOT_ASKED] * 3 + ["the service gave null"]
    assert {row.scores[place].scorer_version for row in rows} == {made.versions[rows[0].scores[place].scorer]}
    assert [row.sample.text for row in rows] == texts


def test_nobody_is_asked_where_all_agree(tmp_path: Path) -> None:
    owner = prompt()
    with Server(sevens) as server:
        others = [rule(tmp_path, "length"), rule(tmp_path, "capitals", weight=0.5)]
        with scorers(tmp_path, *others, asked(server), combine={"type": "weighted_mean"}) as made:
            rows = made.score([owner], samples(owner, "A", "BC"))
        assert server.requests == []
    assert [row.reward for row in rows] == [1.0, 2.0]
    assert [row.scores[2].status for row in rows] == ["abstain"] * 2


def test_asked_and_failed_is_missing(tmp_path: Path) -> None:
    owner = prompt()
    with Server(lambda request: Respond({"hello": 1})) as server:
        scoring = [rule(tmp_path, "length"), rule(tmp_path, "capitals"), asked(server)]
        with scorers(tmp_path, *scoring) as made:
            rows = made.score([owner], samples(owner, "A", "abc"))
    assert [(row.reward, row.scores[2].status) for row in rows] == [(2.0, "abstain"), (None, "error")]


def test_disagreement_is_between_calibrated_rewards(tmp_path: Path) -> None:
    """Length / 4 against capitals: aaaa 1 0 and abcD 1 1 agree, ABC 0.75 3 does not. The asked reward 7 becomes 8."""
    (tmp_path / "quarter.jsonl").write_text('{"raw": 0, "target": 0}\n{"raw": 4, "target": 1}\n')
    (tmp_path / "more.jsonl").write_text('{"raw": 0, "target": 1}\n{"raw": 1, "target": 2}\n')
    owner = prompt()
    with Server(sevens) as server:
        scoring = [
            rule(tmp_path, "length", calibration={"type": "linear", "file": "quarter.jsonl"}),
            rule(tmp_path, "capitals"),
            asked(server, calibration={"type": "linear", "file": "more.jsonl"}),
        ]
        with scorers(tmp_path, *scoring, combine={"type": "weighted_mean"}) as made:
            rows = made.score([owner], samples(owner, "aaaa", "abcD", "ABC"))
    assert [row.scores[2].status for row in rows] == ["abstain", "abstain", "ok"]
    assert [row.reward for row in rows] == [0.5, 1.0, 8.0]


def test_services_get_the_time_that_local_scorers_leave(tmp_path: Path) -> None:
    """The rule takes 1 s of 1 s: nothing is left, and the service is not asked; without a limit it is."""
    owner = prompt()
    with Server(sevens) as server:
        remote = {"type": "remote", "url": f"{server.url}/score"}
        with scorers(tmp_path, remote, rule(tmp_path, "slow", seconds=1.0)) as made:
            late = made.score([owner], samples(owner, "A"), within_s=1.0)
            assert (of_scorer(late, 0), server.requests) == ([("timeout", None)], [])
            assert "limits.score_timeout_s" in str(late[0].scores[0].reason)
            assert of_scorer(made.score([owner], samples(owner, "A")), 0) == [("ok", 7.0)]


def test_services_share_what_is_left_and_what_one_leaves_goes_to_the_next(tmp_path: Path) -> None:
    """Of 600 s the first of three may take 200; as it takes next to none, the second has 300 and the third all."""
    limits: list[float] = []

    class Recorder:
        """Stands between `Scorers` and a service to see what it is given."""

        def __init__(self, backend: Any) -> None:
            self.backend = backend

        def __call__(self, prompts: list[Prompt], samples: list[Sample], within_s: float | None = None) -> Any:
            assert within_s is not None
            limits.append(within_s)
            return self.backend(prompts, samples, within_s)

    owner = prompt()
    with Server(sevens) as server:
        services = [{"type": "remote", "url": f"{server.url}/{name}"} for name in ("a", "b", "c")]
        with scorers(tmp_path, *services) as made:
            for backend in made._backends:
                backend.score = Recorder(backend.score)  # type: ignore[method-assign]
            rows = made.score([owner], samples(owner, "A"), within_s=600.0)
    assert [of_scorer(rows, place) for place in range(3)] == [[("ok", 7.0)]] * 3
    assert 100 < limits[0] <= 200 < limits[1] <= 300 < limits[2] <= 600
