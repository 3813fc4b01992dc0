"""Results of services in the run folder: a run that was killed does not pay twice for what it got."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rayalign.loop.round import Run
from rayalign.loop.run import run_rounds
from rayalign.records import SampledShard, ScoredSample, ScoredShard
from rayalign.scoring.scorers import Scorers
from rayalign.scoring.services.cache import FILE, ScoreCache
from rayalign.scoring.sources import ScorerSource
from rayalign.store.run_dir import RunDir
from tests.fakes import Fuse, Killed, make_config, make_run
from tests.http_server import Request, Respond, Server, completion
from tests.unit.judge_cases import prompt, samples
from tests.unit.service_cases import PATIENT, judge, remote


def sections(server: Server) -> list[dict[str, Any]]:
    limits = {"timeout_s": 60, "concurrency": 4}
    judge = {"type": "judge", "transport": "openai", "base_url": f"{server.url}/v1", "model": "judge", "limits": limits}
    return [
        {**judge, "template": "rating", "reasons": False},
        {"type": "remote", "url": f"{server.url}/score", "batch": 4, "limits": limits},
    ]


def answer(request: Request) -> Respond:
    if "items" not in request.body:
        return completion('{"rating": 5}')
    return Respond({"scores": [{"id": item["id"], "reward": len(item["response"])} for item in request.body["items"]]})


def bought(server: Server) -> int:
    """Answers that were paid for."""
    return sum(len(request.body.get("items", [1])) for request in server.requests)


class InProcess:
    """`Scorer` of the real backends, without Ray; dies after `shards` shards, before the last one is committed."""

    def __init__(self, scorers: Scorers, shards: int | None = None) -> None:
        self.scorers, self.fuse, self.rows = scorers, Fuse(shards), 0

    def score(self, sampled: Iterable[SampledShard]) -> Iterator[ScoredShard]:
        for item in sampled:
            rows: list[ScoredSample] = self.scorers.score(item.shard.prompts, item.samples)
            self.rows += len(rows)
            self.fuse.tick()
            yield ScoredShard(item.shard, rows)


def attempt(folder: Path, scoring: list[dict[str, Any]], shards: int | None = None, cache: Path | None = None) -> Run:
    """Runs one round; with `shards` it is killed."""
    config = make_config(
        scoring=scoring, run={"name": "fake", "rounds": 1}, prompts={"source": "demo", "per_round": 40, "holdout": 8},
        sampling={"responses": 2}, groups={"drop_equal_rewards": False},
    )  # fmt: skip
    run = make_run(folder, config)
    scorers = Scorers(config.scorer_settings, [ScorerSource()] * len(scoring), cache)
    scorer = InProcess(scorers, shards)
    evaluator: Any = run.parts.evaluator
    evaluator._scorer = scorer
    run = dataclasses.replace(run, parts=dataclasses.replace(run.parts, scorer=scorer))
    try:
        run_rounds(run)
    except Killed:
        assert shards is not None
    finally:
        scorers.close()
    return run


def test_a_resumed_run_gets_its_results_from_the_run_folder(tmp_path: Path) -> None:
    """Killed with a shard scored and not committed, then resumed: as many calls as one that was never killed, and the
    same rewards. Without the cache the shard is paid for twice."""
    calls: dict[str, int] = {}
    rows: dict[str, Any] = {}
    for name, killed, cached in (("whole", False, True), ("killed", True, True), ("uncached", True, False)):
        folder = tmp_path / name
        with Server(answer) as server:
            scoring = sections(server)[1:]
            cache = RunDir(folder).cache if cached else None
            if killed:
                run = attempt(folder, scoring, shards=3, cache=cache)
                assert run.run_dir.round(1).committed("sampling") is None
            run = attempt(folder, scoring, cache=cache)
            calls[name] = bought(server)
        rows[name] = run.run_dir.round(1).read_shard("train", 1)
    assert [r.index for r in run.run_dir.rounds()] == [0, 1]
    assert calls["killed"] == calls["whole"] < calls["uncached"]
    assert [row.reward for row in rows["killed"]] == [row.reward for row in rows["whole"]]
    assert all(row.reward is not None for row in rows["killed"])


@pytest.mark.parametrize("make", [judge, remote])
def test_results_are_kept_as_they_come(make: Any, tmp_path: Path) -> None:
    """While the third request still waits for its reply, the first two are in the cache: a kill then costs one."""
    release, waiting = threading.Event(), threading.Event()

    def behave(request: Request) -> Respond:
        if request.number == 2:
            waiting.set()
            release.wait(120)
        return answer(request)

    owner, options = prompt(), {"batch": 1} if make is remote else {}
    with Server(behave) as server:
        limits = PATIENT.model_copy(update={"concurrency": 1, "timeout_s": 120})
        with make(server.url, limits, cache=ScoreCache(tmp_path), **options) as scorer:
            scoring = threading.Thread(target=scorer.score, args=([owner] * 3, samples(owner, "a", "b", "c")))
            scoring.start()
            assert waiting.wait(120)
            deadline = time.monotonic() + 120
            while stored(tmp_path) < 2 and time.monotonic() < deadline:
                time.sleep(0.01)
            assert stored(tmp_path) == 2
            release.set()
            scoring.join()
        assert stored(tmp_path) == 3


def stored(folder: Path) -> int:
    import sqlite3

    with sqlite3.connect(folder / FILE) as db:
        return db.execute("SELECT COUNT(*) FROM scores").fetchone()[0]


def test_judge_and_service_use_the_run_folder_or_the_folder_that_they_name(tmp_path: Path) -> None:
    """Four scorers made anew for the same two answers: one judgment each and one request are all that is paid for."""
    owner = prompt()
    with Server(answer) as server:
        for named in ({}, {}, {"cache": str(tmp_path / "shared")}, {"cache": str(tmp_path / "shared")}):
            config = make_config(scoring=[{**section, **named} for section in sections(server)])
            scorers = Scorers(config.scorer_settings, [ScorerSource()] * 2, tmp_path / "cache")
            rows = scorers.score([owner], samples(owner, "a", "bb"))
            scorers.close()
            assert [row.reward for row in rows] == [6.0, 7.0]
        assert len(server.requests) == 2 * (2 + 1)
    assert (stored(tmp_path / "cache"), stored(tmp_path / "shared")) == (4, 4)


def test_a_run_folder_that_cannot_hold_a_cache_costs_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with Server(answer) as server, caplog.at_level(logging.WARNING):
        config = make_config(scoring=sections(server))
        scorers = Scorers(config.scorer_settings, [ScorerSource()] * 2, tmp_path / "cache")
        owner = prompt()
        rows = scorers.score([owner], samples(owner, "a"))
        scorers.close()
    assert rows[0].reward == 6.0
    assert "no cache in the run folder" in caplog.text


def test_no_cache_on_an_object_store(tmp_path: Path) -> None:
    """SQLite needs a local file."""
    assert RunDir("s3://bucket/runs/a").cache is None
    assert RunDir(tmp_path).cache == tmp_path / "cache"
