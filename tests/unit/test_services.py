"""Judge and remote scorer against a server that misbehaves, over real sockets: nothing is invented, nothing shifts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rayalign.config.services import CallLimits
from rayalign.records import Score
from rayalign.scoring.judges.templates import make_template
from rayalign.scoring.services.cache import ScoreCache
from tests.http_server import Hang, Request, Reset, Respond, Server, completion
from tests.processes import free_port
from tests.unit.service_cases import KEY, PATIENT, judge, rating, remote, results, rewards, score


def first(action: Respond | Hang | Reset, then: Callable[[Request], Any], times: int = 1) -> Callable[[Request], Any]:
    return lambda request: action if request.number < times else then(request)


PASSING = {
    "500": Respond({"error": "boom"}, 500),
    "503": Respond(b"<html>busy</html>", 503),
    "429": Respond({"error": "slow down"}, 429, {"Retry-After": "0.2"}),
    "reset": Reset(),
    "half a body": Respond({"scores": [], "padding": "x" * 1000}, cut=0.5),
    "no body": Respond({"scores": []}, cut=0.0),
    "hang": Hang(),
}


@pytest.mark.parametrize("fault", PASSING)
def test_faults_that_pass_cost_a_retry_and_nothing_else(fault: str) -> None:
    limits = PATIENT.model_copy(update={"timeout_s": 4.0}) if fault == "hang" else PATIENT
    with Server(first(PASSING[fault], rewards)) as server, remote(server.url, limits) as scorer:
        assert results(score(scorer, "1", "2", "3")) == [("ok", 1.0), ("ok", 2.0), ("ok", 3.0)]
        assert len(server.requests) == 3
    with Server(first(PASSING[fault], rating)) as server, judge(server.url, limits) as scorer:
        assert results(score(scorer, "cat", "cat cat")) == [("ok", 1.0), ("ok", 2.0)]
        assert len(server.requests) == 3


@pytest.mark.parametrize("fault", PASSING)
def test_faults_that_stay_fail_the_score_with_their_name(fault: str) -> None:
    limits = PATIENT.model_copy(update={"timeout_s": 1.0 if fault == "hang" else 60.0, "retries": 1})
    status = "timeout" if fault == "hang" else "error"
    reason = {"500": "HTTP 500", "503": "HTTP 503", "429": "HTTP 429", "hang": "no reply within 1 s"}
    for make, calls in ((remote, 1), (judge, 2)):
        with Server(lambda request: PASSING[fault]) as server, make(server.url, limits) as scorer:
            scores = score(scorer, "1", "2")
            assert results(scores) == [(status, None)] * 2
            assert all(str(one.reason).startswith(reason.get(fault, "no connection")) for one in scores)
            assert len(server.requests) == 2 * calls


BAD_REPLIES: dict[str, Any] = {
    "one too few": {"scores": [{"id": "0", "reward": 1.0}]},
    "one too many": {"scores": [{"id": str(i), "reward": 1.0} for i in range(3)]},
    "one twice": {"scores": [{"id": "0", "reward": 1.0}, {"id": "0", "reward": 2.0}]},
    "other ids": {"scores": [{"id": "1", "reward": 1.0}, {"id": "2", "reward": 2.0}]},
    "numbers for ids": {"scores": [{"id": 0, "reward": 1.0}, {"id": 1, "reward": 2.0}]},
    "lists for ids": {"scores": [{"id": ["0"], "reward": 1.0}, {"id": "1", "reward": 2.0}]},
    "no ids": {"scores": [{"reward": 1.0}, {"reward": 2.0}]},
    "bare numbers": {"scores": [1.0, 2.0]},
    "text for a reward": {"scores": [{"id": "0", "reward": "1.0"}, {"id": "1", "reward": 2.0}]},
    "true for a reward": {"scores": [{"id": "0", "reward": True}, {"id": "1", "reward": 2.0}]},
    "a reward missing": {"scores": [{"id": "0"}, {"id": "1", "reward": 2.0}]},
    "NaN": b'{"scores": [{"id": "0", "reward": NaN}, {"id": "1", "reward": 2.0}]}',
    "too large": b'{"scores": [{"id": "0", "reward": 1e999}, {"id": "1", "reward": 2.0}]}',
    "too large a whole number": {"scores": [{"id": "0", "reward": 10**400}, {"id": "1", "reward": 2.0}]},
    "other form": {"rewards": [1.0, 2.0]},
    "null": None,
    "a list": [1.0, 2.0],
    "invalid JSON": b'{"scores": [{"id": "0", "reward": 1.0}, {"id": "1", "reward": 2.0}',
    "no JSON": b"<html>hello</html>",
    "no UTF-8": b"\xff\xfe",
    "nothing": b"",
    "brackets": b"[" * 100_000,
}


@pytest.mark.parametrize("fault", BAD_REPLIES)
def test_a_bad_reply_fails_its_batch_as_a_whole_and_no_other(fault: str) -> None:
    """Batches of two; the one of "3" and "4" gets the bad reply, and is not asked for again."""

    def behave(request: Request) -> Respond:
        third = any(item["response"] == "3" for item in request.body["items"])
        return Respond(BAD_REPLIES[fault]) if third else rewards(request)

    with Server(behave) as server, remote(server.url) as scorer:
        scores = score(scorer, "1", "2", "3", "4", "5")
    assert results(scores) == [("ok", 1.0), ("ok", 2.0), ("error", None), ("error", None), ("ok", 5.0)]
    assert len(server.requests) == 3


def test_rewards_follow_their_ids_whatever_their_order() -> None:
    def behave(request: Request) -> Respond:
        return Respond({"scores": rewards(request).body["scores"][::-1]}, delay_s=0.05 * (3 - request.number % 3))

    with Server(behave) as server, remote(server.url, batch=3) as scorer:
        assert [one.reward for one in score(scorer, *map(str, range(9)))] == [float(i) for i in range(9)]


def test_null_abstains() -> None:
    reply = Respond({"scores": [{"id": "0", "reward": None}, {"id": "1", "reward": 0}]})
    with Server(lambda request: reply) as server, remote(server.url) as scorer:
        assert results(score(scorer, "1", "2")) == [("abstain", None), ("ok", 0.0)]


JUDGE_REPLIES: dict[str, Respond] = {
    "prose": completion("I'd say 7."),
    "cut": completion('{"rating": 1', "length"),
    "cut after the verdict": completion('{"rating": 1}', "length"),
    "no text": completion(None, "tool_calls"),
    "no choices": Respond({"choices": []}),
    "two choices": Respond({"choices": completion('{"rating": 1}').body["choices"] * 2}),
    "no JSON": Respond(b"<html>hello</html>"),
    "as text": Respond(b"hello", headers={"Content-Type": "text/plain"}),
    "null": Respond(None),
    "invalid JSON": Respond(b'{"choices": [{"message": {"content": "{\\"rating\\": 1}"'),
    "400": Respond({"error": "no response_format here"}, 400),
    "401": Respond({"error": f"invalid key {KEY}"}, 401),
}


@pytest.mark.parametrize("fault", JUDGE_REPLIES)
def test_a_reply_that_is_no_verdict_is_an_error_of_its_item(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)

    def behave(request: Request) -> Respond:
        return JUDGE_REPLIES[fault] if "bad" in request.body["messages"][1]["content"] else rating(request)

    with Server(behave) as server, judge(server.url, key="JUDGE_KEY") as scorer:
        scores = score(scorer, "cat", "bad", "cat cat")
    assert results(scores) == [("ok", 1.0), ("error", None), ("ok", 2.0)]
    assert KEY not in str(scores) and scores[1].reason
    assert len(server.requests) == 3
    assert all(request.headers["authorization"] == f"Bearer {KEY}" for request in server.requests)


def test_what_is_sent_to_a_judge() -> None:
    with Server(rating) as server, judge(server.url) as scorer:
        [one] = score(scorer, "cat")
    [request] = server.requests
    assert request.path == "/v1/chat/completions"
    template = make_template("rating", None, reasons=False, structured=True)
    form = {"type": "json_schema", "json_schema": {"name": "verdict", "schema": template.schema, "strict": True}}
    wanted = {"model": "judge", "temperature": 0.0, "max_tokens": 32, "response_format": form}
    assert {name: request.body[name] for name in wanted} == wanted
    assert "seed" not in request.body
    assert one.cost == pytest.approx(110e-6)


def test_a_sampling_judge_gets_a_seed_for_each_question() -> None:
    with Server(rating) as server:
        for _ in range(2):
            with judge(server.url, CallLimits(concurrency=1), temperature=0.5) as scorer:
                score(scorer, "cat", "dog")
    seeds = [request.body["seed"] for request in server.requests]
    assert seeds[:2] == seeds[2:] and seeds[0] != seeds[1]
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_429_with_retry_after_is_obeyed_and_throughput_recovers() -> None:
    """The service asks for 1 s after its first request: nothing comes until then, and all comes soon after."""

    def behave(request: Request) -> Respond:
        return Respond({}, 429, {"Retry-After": "1"}) if request.number == 0 else rating(request)

    with Server(behave) as server, judge(server.url, CallLimits(concurrency=1)) as scorer:
        assert results(score(scorer, *["cat"] * 20)) == [("ok", 1.0)] * 20
        gaps = [time - server.times[0] for time in server.times[1:]]
    assert len(gaps) == 20
    assert min(gaps) >= 1.0


def together(count: int) -> Callable[[Request], Respond]:
    """Right replies, each of them held back until `count` requests are there."""
    barrier = threading.Barrier(count)

    def behave(request: Request) -> Respond:
        barrier.wait(120)
        return rating(request)

    return behave


def test_requests_stay_in_flight_up_to_the_limit() -> None:
    with Server(together(12)) as server, judge(server.url, CallLimits(concurrency=12)) as scorer:
        assert results(score(scorer, *["cat"] * 36)) == [("ok", 1.0)] * 36
    assert server.most_in_flight == 12


def test_two_threads_share_one_scorers_limits() -> None:
    """As in a scorer actor, which works on two shards at once."""
    with Server(together(3)) as server, judge(server.url, CallLimits(concurrency=3)) as scorer:
        found: list[list[Score]] = []
        threads = [threading.Thread(target=lambda: found.append(score(scorer, *["cat"] * 9))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [results(scores) for scores in found] == [[("ok", 1.0)] * 9] * 2
    assert server.most_in_flight == 3


@pytest.mark.parametrize("make", [remote, judge])
def test_what_is_not_done_by_the_deadline_is_a_timeout(make: Any) -> None:
    """Two at once, 1 s each, 4 s in all: some of 40 are done, the others are missing, and none is waited for."""

    def slow(request: Request) -> Respond:
        right = rewards(request) if "items" in request.body else rating(request)
        return Respond(right.body, delay_s=1.0)

    options: dict[str, Any] = {"batch": 1} if make is remote else {}
    with (
        Server(slow) as server,
        make(server.url, CallLimits(concurrency=2), deadline_s=4.0, **options) as scorer,
    ):
        started = time.monotonic()
        found = results(score(scorer, *["1"] * 40)) if make is remote else results(score(scorer, *["cat"] * 40))
        took = time.monotonic() - started
    assert took < 15
    assert set(found) == {("ok", 1.0), ("timeout", None)}


@pytest.mark.parametrize("make", [remote, judge])
def test_a_server_that_dies_midway_loses_nothing_that_was_scored(make: Any) -> None:
    """It dies after 6 replies and comes back: what was scored counts, the rest is missing with a reason, and the next
    shard is scored in full."""
    port, dead = free_port(), threading.Event()

    def behave(request: Request) -> Any:
        if request.number >= 6:
            if request.number == 7:  # both slots hang, so all replies before have arrived
                dead.set()
            return Hang()
        return rewards(request) if make is remote else rating(request)

    options: dict[str, Any] = {"batch": 1} if make is remote else {}
    texts = ["1" if make is remote else "cat"] * 12
    server = Server(behave, port=port)
    killer = threading.Thread(target=lambda: (dead.wait(), server.die()))
    killer.start()
    with make(server.url, CallLimits(concurrency=2, retries=1), **options) as scorer:
        found = score(scorer, *texts)
        killer.join()
        assert results(found).count(("ok", 1.0)) == 6
        assert [one.status for one in found].count("error") == 6
        assert all(str(one.reason).startswith("no connection") for one in found if one.status == "error")
        with Server(rewards if make is remote else rating, port=port):
            assert results(score(scorer, *texts)) == [("ok", 1.0)] * 12


def test_remote_rewards_are_cached(tmp_path: Path) -> None:
    with Server(rewards) as server:
        for expected in (2, 2):
            with remote(server.url, cache=ScoreCache(tmp_path)) as scorer:
                assert results(score(scorer, "1", "2", "3")) == [("ok", 1.0), ("ok", 2.0), ("ok", 3.0)]
            assert len(server.requests) == expected
