"""What is wrong with a service is said before anything is sampled; keys are named and never shown."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rayalign.config.services import CallLimits
from rayalign.errors import ConfigError
from rayalign.scoring.judges.llm_judge import LLMJudge
from rayalign.scoring.services.cache import ScoreCache
from rayalign.scoring.services.remote import RemoteScorer
from rayalign.scoring.services.transport import Key
from tests.http_server import Hang, Request, Reset, Respond, Server, completion
from tests.processes import free_port
from tests.unit.service_cases import KEY, judge, rating, remote, results, rewards, score

ONCE = CallLimits(retries=0)
PARAMETER = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."


def either(request: Request) -> Respond:
    """A right reply of a reward service, or of a judge."""
    return rewards(request) if "items" in request.body else rating(request)


def refused(scorer: RemoteScorer | LLMJudge) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        scorer.check()
    assert "nothing has been sampled" in caught.value.remedy and KEY not in str(caught.value)
    return caught.value


def test_a_service_that_scores_is_taken_and_one_that_is_away_is_not() -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    for make in (remote, judge):
        with make(nobody) as scorer:
            error = refused(scorer)
        assert nobody in error.found and "no connection" in error.why
        with Server(either) as server, make(server.url) as scorer:
            scorer.check()


@pytest.mark.parametrize(
    "models",
    [Respond({"error": "no such path"}, 404), Respond(b"", 405), Respond(b"<html>501</html>", 501),
     Respond({"error": "no scope"}, 403), Respond(b"<html>hello</html>"), Respond({"data": [{"id": "another"}]}),
     Respond({"data": "none"}), Respond([]), Respond({"data": []}), Respond(b"[" * 9999)],
)  # fmt: skip
def test_an_endpoint_without_a_list_of_models_is_used_if_the_judge_answers(models: Respond) -> None:
    with Server(either, models) as server, judge(server.url) as scorer:
        scorer.check()
        assert results(score(scorer, "cat")) == [("ok", 1.0)]
    assert len(server.requests) == 2


REFUSALS: dict[str, tuple[Respond, str]] = {
    "a parameter": (Respond({"error": {"message": PARAMETER, "param": "max_tokens"}}, 400), f"HTTP 400: {PARAMETER!r}"),
    "a field": (
        Respond({"detail": [{"loc": ["body", "max_tokens"], "msg": "not permitted"}]}, 422),
        "HTTP 422: 'body.max_tokens: not permitted'",
    ),
    "the key": (Respond({"error": f"invalid key {KEY}"}, 401), "HTTP 401: 'invalid key ***'"),
    "the user": (Respond({"error": {"message": "no access"}}, 403), "HTTP 403: 'no access'"),
    "the model": (Respond({"error": {"message": "no such model"}}, 404), "HTTP 404: 'no such model'"),
    "the path": (Respond(b"<html>not found</html>", 404), "HTTP 404: '<html>not found</html>'"),
    "for good": (Respond({"error": "boom"}, 500), "HTTP 500: 'boom'"),
    "under 200": (Respond({"error": {"code": 401, "message": "bad key"}}), "no chat completion: 'bad key'"),
}


@pytest.mark.parametrize("fault", REFUSALS)
def test_what_an_endpoint_refuses_is_said_in_its_words(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)
    reply, words = REFUSALS[fault]
    with (
        Server(lambda request: reply, Respond({"data": [{"id": "another"}]})) as server,
        judge(server.url, ONCE, key="JUDGE_KEY") as scorer,
    ):
        error = refused(scorer)
    assert error.found == f"base_url: {server.url}/v1, model: judge"
    assert f"the judge's endpoint cannot be used: {words}" in error.why
    assert "request: {max_tokens: null" in error.remedy and "it serves another" in error.remedy
    assert len(server.requests) == 1


SLOW = CallLimits(retries=0, timeout_s=0.5)
QUOTA = {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}
PASSING: dict[str, tuple[Any, CallLimits, str]] = {
    "too many": (Respond({"error": "slow down"}, 429), ONCE, "lower limits.concurrency, limits.requests_per_minute"),
    "quota": (Respond(QUOTA, 429), ONCE, "raise the account's quota or balance"),
    "money": (Respond({"error": "no balance"}, 402), ONCE, "raise the account's quota or balance"),
    "under 200": (Respond({"error": {"code": 429, "message": "busy"}}), ONCE, "wait until the service takes requests"),
    "for long": (Respond({"error": "x"}, 429, {"Retry-After": "9999"}), CallLimits(), "takes requests again"),
    "down": (Respond({"error": "x"}, 503, {"Retry-After": "9999"}), ONCE, "takes requests again"),
    "boom": (Respond({"error": "boom"}, 500), ONCE, "wait until the service works again, or see its log"),
    "starting": (Respond(b"loading", 502), ONCE, "wait until the service works again"),
    "late": (Respond({}, delay_s=2.0), SLOW, "raise limits.timeout_s"),
    "never": (Hang(), SLOW, "raise limits.timeout_s"),
}
"""What a service may get over, or a limit: its reply, the limits of the calls, words of the remedy."""


@pytest.mark.parametrize("make", [judge, remote])
@pytest.mark.parametrize("fault", PASSING)
def test_of_what_may_pass_it_is_said_what_to_wait_for(fault: str, make: Any) -> None:
    reply, limits, words = PASSING[fault]
    # Where a reward service refuses the empty batch, what it says to the canned answer counts.
    empty = Respond({"error": "no items"}, 400)
    with Server(lambda r: empty if r.body.get("items") == [] else reply) as server, make(server.url, limits) as scorer:
        error = refused(scorer)
    assert words in error.remedy and "then run the same command again" in error.remedy
    assert ("mend base_url" if make is judge else "start it, or mend url") in error.remedy


def test_of_what_stays_it_is_not_said_to_wait() -> None:
    for code in (400, 401, 403, 404, 422):
        with Server(lambda r, code=code: Respond({"error": "no"}, code)) as server:
            for make in (judge, remote):
                with make(server.url, ONCE) as scorer:
                    assert "again" not in refused(scorer).remedy


def test_a_name_that_no_request_can_carry() -> None:
    with Server(either) as server, judge(server.url, model="m\ud800") as scorer:
        assert "a lone surrogate" in refused(scorer).why
        assert [one.status for one in score(scorer, "cat")] == ["error"]
    assert server.requests == []


def test_a_parameter_that_is_refused_can_be_renamed() -> None:
    def behave(request: Request) -> Respond:
        if {"max_tokens", "temperature"} & set(request.body):
            return Respond({"error": {"message": PARAMETER}}, 400)
        return rating(request)

    request = {"max_tokens": None, "max_completion_tokens": 32, "temperature": None}
    with Server(behave) as server:
        with judge(server.url) as scorer:
            assert "'max_completion_tokens'" in refused(scorer).why
        with judge(server.url, request=request) as scorer:
            scorer.check()
            assert results(score(scorer, "cat")) == [("ok", 1.0)]


@pytest.mark.parametrize("template", ["rating", "cut", "pairwise"])
def test_a_judge_that_gives_one_verdict_of_six_is_taken(template: Any) -> None:
    """Free text may break off now and then; how often is up to the error budget, not to the check."""
    verdict = {"rating": '{"rating": 7}', "cut": '{"judgment": "No animals."}', "pairwise": '{"better": "tie"}'}[
        template
    ]
    cut = completion('{"judgment": "Well, the', "length")
    with Server(lambda r: completion(verdict) if r.number == 5 else cut) as server:
        with judge(server.url, template=template) as scorer:
            scorer.check()
        assert len({str(request.body["messages"]) for request in server.requests}) == 6


def test_a_judge_may_miss_verdicts_and_not_always() -> None:
    """Each time another canned answer; a reply that is no completion may be chance as well."""
    bad = [completion("I like it."), completion('{"rating": 1', "length"), Respond(b"<html>hello</html>")]
    with Server(lambda r: bad[r.number] if r.number < 2 else rating(r)) as server, judge(server.url) as scorer:
        scorer.check()
        assert len({str(request.body["messages"]) for request in server.requests}) == 6
    reasons = ["'I like it.'", "a reply cut at 10 tokens", "no chat completion: '<html>hello</html>'"]
    for reply, reason in zip(bad, reasons, strict=True):
        with Server(lambda r, reply=reply: reply) as server, judge(server.url) as scorer:
            error = refused(scorer)
        assert error.why.startswith("the judge's replies give no verdict: ") and reason in error.why
        assert "raise max_tokens" in error.remedy and "request: {" in error.remedy
        assert len(server.requests) == 6


def test_what_may_pass_is_waited_for_as_in_every_call() -> None:
    """And with no retry left it is said."""
    busy = Respond({"error": "slow down"}, 429, {"Retry-After": "0.1"})
    for make in (judge, remote):
        with Server(lambda r: busy if r.number == 0 else either(r)) as server, make(server.url) as scorer:
            scorer.check()
        with Server(lambda r: busy) as server, make(server.url, CallLimits(retries=1)) as scorer:
            assert "HTTP 429: 'slow down'" in refused(scorer).why
        assert len(server.requests) == (2 if make is judge else 3)


@pytest.mark.parametrize(("template", "verdict"), [("cut", '"judgment": "perfect"'), ("pairwise", '"better": "A"')])
def test_every_template_is_tried(template: Any, verdict: str) -> None:
    """By its own messages and its own reading: a verdict of another template is none."""
    with Server(lambda request: completion(f"{{{verdict}}}")) as server:
        with judge(server.url, template=template) as scorer:
            scorer.check()
        with judge(server.url) as scorer:
            assert "rating" in refused(scorer).why
    assert ("response B" in str(server.requests[0].body["messages"])) == (template == "pairwise")


@pytest.mark.parametrize("make", [judge, remote])
def test_a_resumed_run_does_not_pay_for_it_again(make: Any, tmp_path: Path) -> None:
    """Unless the endpoint is not known to serve the judge still."""
    with Server(either) as server:
        for expected in (1, 1):
            with make(server.url, cache=ScoreCache(tmp_path)) as scorer:
                scorer.check()
            assert sum(request.body.get("items") != [] for request in server.requests) == expected
        if make is judge:
            server.models = Respond({"data": [{"id": "another"}]})
            server.behave = lambda request: Respond({"error": "no such model"}, 404)
            with judge(server.url, cache=ScoreCache(tmp_path)) as scorer:
                assert "HTTP 404: 'no such model'" in refused(scorer).why


EMPTY: dict[str, Respond | Reset] = {
    "400": Respond({"detail": "no items"}, 400),
    "500": Respond(b"division by zero", 500),
    "another form": Respond({"error": "no items"}),
    "reset": Reset(),
}


@pytest.mark.parametrize("fault", EMPTY)
def test_a_reward_service_that_cannot_take_an_empty_batch(fault: str) -> None:
    def behave(request: Request) -> Any:
        return rewards(request) if request.body["items"] else EMPTY[fault]

    with Server(behave) as server, remote(server.url) as scorer:
        scorer.check()
    [item] = server.requests[1].body["items"]
    assert set(item) == {"id", "messages", "response", "metadata"}


def test_a_reward_service_that_takes_it_may_not_know_the_canned_answer(caplog: pytest.LogCaptureFixture) -> None:
    """It may need metadata; and what it says to real answers counts."""
    unknown = Respond({"error": "no metadata"}, 400)
    with Server(lambda r: unknown if r.number == 1 else rewards(r)) as server, remote(server.url) as scorer:
        scorer.check()
        assert "did not score a canned answer: HTTP 400: 'no metadata'" in caplog.text
        assert results(score(scorer, "1")) == [("ok", 1.0)]


WRONG_SCORES: dict[str, tuple[Any, str]] = {
    "text": ({"scores": [{"id": "0", "reward": "0.7"}]}, "the reward of item 0 is"),
    "NaN": (b'{"scores": [{"id": "0", "reward": NaN}]}', '(ValueError): \'{"scores": [{"id": "0", "reward": NaN}]}\''),
    "none": ({"scores": []}, "0 scores for 1 responses"),
    "another form": ({"rewards": [0.7]}, "not the reply of a reward service"),
    "a page": (b"<html>hello</html>", "not the reply of a reward service"),
    "an error": ({"error": {"message": "no GPU left"}}, "'no GPU left'"),
}


@pytest.mark.parametrize("fault", WRONG_SCORES)
def test_a_reward_service_of_another_form_is_refused(fault: str) -> None:
    """Whether or not it takes an empty batch."""
    body, words = WRONG_SCORES[fault]
    for empty in (Respond({"scores": []}), Respond(body)):
        with Server(lambda r, e=empty: Respond(body) if r.body["items"] else e) as server, remote(server.url) as scorer:
            error = refused(scorer)
        assert (error.found, words in error.why) == (f"url: {server.url}", True), error.why


def test_where_a_reward_service_went_is_said() -> None:
    """A redirection is not followed, since a POST may come out of it as a GET."""
    moved = Respond(b"", 307, {"Location": "https://elsewhere.org/score"})
    with Server(lambda request: moved) as server, remote(server.url) as scorer:
        assert "HTTP 307: 'https://elsewhere.org/score'" in refused(scorer).why


def test_a_missing_key_is_named_and_a_present_one_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in (None, "", "  "):
        monkeypatch.delenv("JUDGE_KEY", raising=False)
        if value is not None:
            monkeypatch.setenv("JUDGE_KEY", value)
        with pytest.raises(ConfigError, match="JUDGE_KEY"):
            Key("JUDGE_KEY")
    monkeypatch.setenv("JUDGE_KEY", KEY)
    key = Key("JUDGE_KEY")
    assert key.complaint(f'{{"error": "wrong key {KEY}"}}') == "'wrong key ***'"
    assert KEY not in repr(key) and KEY not in key.reason(f"wrong key {KEY}, {KEY}")


def test_a_key_with_a_line_end_is_taken_and_one_that_no_header_carries_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", f"{KEY}\r\n")
    with Server(either) as server:
        for make in (judge, remote):
            with make(server.url, key="JUDGE_KEY") as scorer:
                scorer.check()
    assert {request.headers["authorization"] for request in server.requests} == {f"Bearer {KEY}"}
    for value in (f"{KEY}\nsecond", f"Bearer {KEY}", f"{KEY}\u2026", f"{KEY}\x7f"):
        monkeypatch.setenv("JUDGE_KEY", value)
        with pytest.raises(ConfigError, match="api_key_env: JUDGE_KEY") as caught:
            Key("JUDGE_KEY")
        assert KEY not in str(caught.value)


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
