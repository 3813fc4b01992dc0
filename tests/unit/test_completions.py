"""Replies as endpoints and gateways really send them: each is read, or fails its own answer with a reason."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from rayalign.scoring.services.bodies import error_code, message_of, parse_body
from tests.http_server import Request, Respond, Server, completion
from tests.unit.service_cases import judge, score

VERDICT = '{"rating": 7}'


def message(finish: Any = "stop", usage: Any = None, **fields: Any) -> Respond:
    """A completion whose message has `fields`."""
    choice = {"index": 0, "message": {"role": "assistant", **fields}, "finish_reason": finish}
    return Respond({"id": "x", "choices": [choice], "usage": usage or {"prompt_tokens": 100, "completion_tokens": 10}})


def chunk(finish: Any = None, **delta: Any) -> dict[str, Any]:
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def stream(*events: Any, end: str = "\n\n", kind: str = "text/event-stream") -> Respond:
    """Server-sent events: text as it stands, anything else as JSON data."""
    lines = [one if isinstance(one, str) else f"data: {json.dumps(one)}" for one in events]
    return Respond("".join(line + end for line in lines).encode(), headers={"Content-Type": kind})


def without(name: str) -> Respond:
    whole = completion(VERDICT)
    return Respond({"choices": [{k: v for k, v in whole.body["choices"][0].items() if k != name}]})


def finished(**fields: Any) -> Respond:
    """A completion whose choice has `fields` too."""
    return Respond({"choices": [{"index": 0, "message": {"content": VERDICT}, "finish_reason": None, **fields}]})


HALVES = chunk(role="assistant", content=""), chunk(content='{"rating"'), chunk(content=": 7}")
MESSAGES = [{"choices": [{"message": {"content": one}}]} for one in ("", '{"rating"', ": 7", "}")]
GROWING = [{"choices": [{"message": {"content": VERDICT[:end]}}]} for end in (3, 9, len(VERDICT))]
USED = {"choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 10}}
WHOLE = json.dumps(completion(VERDICT).body).encode()
ZIPPED = {"Content-Encoding": "gzip"}
TEXT = {"type": "text", "text": VERDICT}
RIGHT: dict[str, Respond] = {
    "no finish_reason": without("finish_reason"),
    "null finish_reason": message(None, content=VERDICT),
    "finish_reason in capitals": message("STOP", content=VERDICT),
    "no usage": completion(VERDICT, tokens=None),
    "float counts": message(content=VERDICT, usage={"prompt_tokens": 100.0, "completion_tokens": 10.0}),
    "counts in quotes": message(content=VERDICT, usage={"prompt_tokens": "100", "completion_tokens": "10"}),
    "counts by other names": message(content=VERDICT, usage={"input_tokens": 100, "output_tokens": 10}),
    "counts that are none": message(content=VERDICT, usage={"prompt_tokens": "many", "completion_tokens": -1}),
    "counts without end": message(content=VERDICT, usage={"prompt_tokens": 10**400, "completion_tokens": True}),
    "a list for usage": message(content=VERDICT, usage=[1, 2]),
    "parts": message(content=[{"type": "text", "text": '{"rating"'}, {"type": "text", "text": ": 7}"}]),
    "parts with thoughts": message(content=[{"type": "thinking", "thinking": "7?"}, TEXT]),
    "a part alone": message(content=TEXT),
    "parts as text": message(content=['{"rating"', ": 7}"]),
    "filed under reasoning": message(content=None, reasoning_content=VERDICT),
    "reasoning beside": message(content=VERDICT, reasoning_content='{"rating": 1}'),
    "an empty error": Respond({**completion(VERDICT).body, "error": {"code": 0, "message": ""}}),
    "null for an error": Respond({**completion(VERDICT).body, "error": None}),
    "byte order mark": Respond(b"\xef\xbb\xbf" + WHOLE),
    "gzip": Respond(gzip.compress(WHOLE), headers=ZIPPED),
    "as text": Respond(completion(VERDICT).body, headers={"Content-Type": "text/plain"}),
    "NaN in a field of no use": Respond(
        json.dumps({**completion(VERDICT).body, "logprobs": float("nan")}).encode()
    ),
    "a key twice, the same": Respond(
        WHOLE.replace(b'"finish_reason"', b'"index": 0, "index": 0, "finish_reason"')
    ),
    "after empty lines": Respond(b"\n\r\n  \n" + WHOLE),
    "after comments": Respond(b": waiting\n\n: waiting\r\n" + WHOLE),
    "in a list": Respond([completion(VERDICT).body]),
    "as the old completions": Respond({"choices": [{"text": VERDICT, "finish_reason": "stop"}]}),
    "stream": stream(*HALVES, chunk("stop"), USED, "data: [DONE]"),
    "stream called JSON": stream(*HALVES, chunk("stop"), USED, "data: [DONE]", kind="application/json"),
    "stream with comments": stream(": keep-alive", *HALVES, ": keep-alive", "event: ping\ndata: {}", "data: [DONE]"),
    "stream with names and numbers": stream(
        *(f"event: message\nid: {i}\nretry: 5\ndata: {json.dumps(one)}" for i, one in enumerate(HALVES)), "data: [DONE]"
    ),
    "stream without end": stream(*HALVES),
    "stream without blank lines": stream(*HALVES, chunk("stop"), "data: [DONE]", end="\n"),
    "stream of CRLF": stream(*HALVES, "data: [DONE]", end="\r\n\r\n"),
    "stream without spaces": stream(*(f"data:{json.dumps(one)}" for one in HALVES), "data:[DONE]"),
    "stream of one whole reply": stream(completion(VERDICT).body, "data: [DONE]"),
    "stream that repeats itself whole": stream(*HALVES, completion(VERDICT).body, "data: [DONE]"),
    "stream after a byte order mark": Respond(b"\xef\xbb\xbf" + stream(*HALVES, "data: [DONE]").body),
    "stream of reasoning and text": stream(chunk(reasoning_content="{"), chunk(reasoning_content="hm"), *HALVES),
    "an object per line": stream(*map(json.dumps, HALVES), end="\n", kind="application/x-ndjson"),
    "stream of messages in pieces": stream(*MESSAGES, "data: [DONE]"),
    "stream of messages that grow": stream(*GROWING, "data: [DONE]"),
    "stream of messages, repeated": stream(*MESSAGES, completion(VERDICT).body, "data: [DONE]"),
    "stream of texts": stream(*({"choices": [{"text": one}]} for one in ('{"rating"', ": 7}")), "data: [DONE]"),
    "stream with pings": stream(
        "data: ping", HALVES[0], "data: keep-alive", "data:", HALVES[1], "event: ping\ndata: ping", "data: [PING]",
        ": keep-alive", 'data: "ping"', "event:", "data: null", HALVES[2], "id: 7", "data: [DONE]",
    ),
    "stream with pings and no blank lines": stream("data: ping", *HALVES, "data: ping", "data: [DONE]", end="\n"),
    "an object per line, with comments": stream(": a", json.dumps(HALVES[1]), ": b", json.dumps(HALVES[2]), end="\n"),
    "finish_reason as an object": message({"type": "stop", "matched": 2}, content=VERDICT),
    "finish_reason of another kind": message("eos_token", content=VERDICT),
    "empty errors of choice and message": Respond(
        {"choices": [{"error": None, "message": {"content": VERDICT, "error": {}}, "finish_reason": "stop"}]}
    ),
    "a chunk alone": Respond(chunk("stop", content=VERDICT)),
}  # fmt: skip
COUNTED = {"no usage", "counts that are none", "counts without end", "a list for usage"}
"""Replies whose tokens nobody counted, beside all that hold no usage."""
WRONG: dict[str, tuple[Respond, str]] = {
    "an error": (Respond({"error": {"message": "no such model", "code": "model_not_found"}}), "no such model"),
    "an error as text": (Respond({"error": "out of credit"}), "no chat completion: 'out of credit'"),
    "an error of old": (Respond({"object": "error", "message": "too long", "code": 400}), "'too long'"),
    "an error in a list": (Respond([{"error": {"code": 400, "message": "bad key"}}]), "'bad key'"),
    "an error beside choices": (
        Respond({**completion(VERDICT).body, "error": {"message": "upstream failed"}}), "upstream failed",
    ),
    "an error in a stream": (stream(*HALVES, {"error": {"message": "upstream failed"}}), "upstream failed"),
    "an event called error": (stream(*HALVES, 'event: error\ndata: {"message": "gone"}'), "gone"),
    "no choices": (Respond({"choices": [], "usage": {}}), "no chat completion"),
    "null choices": (Respond({"choices": None, "detail": "it sleeps"}), "'it sleeps'"),
    "text for choices": (Respond({"choices": VERDICT}), "no chat completion"),
    "two choices": (Respond({"choices": completion(VERDICT).body["choices"] * 2}), "several choices"),
    "two choices in a stream": (
        stream(*HALVES, {"choices": [{"index": 1, "delta": {"content": VERDICT}}]}), "several choices",
    ),
    "null content": (message(content=None), "a message without text (finish_reason 'stop')"),
    "a number for content": (message(content=7), "a message without text"),
    "no message": (without("message"), "a message without text"),
    "reasoning alone": (message(content=None, reasoning_content=f"Perhaps {VERDICT}"), "reasoning alone"),
    "a refusal": (message(content=None, refusal="I cannot rate this."), "refusal: 'I cannot rate this.'"),
    "tools": (message("tool_calls", content=None, tool_calls=[{"id": "1"}]), "'tool_calls'"),
    "cut by another name": (message("max_tokens", content=VERDICT), "a reply cut at 10 tokens"),
    "cut, in an object": (message({"type": "length"}, content=VERDICT), "a reply cut at 10 tokens"),
    "cut, with a length": (message({"type": "length", "length": 10}, content=VERDICT), "a reply cut at 10 tokens"),
    "cut, in details": (finished(finish_details={"type": "max_tokens"}), "a reply cut at"),
    "cut, by the model's own word": (finished(native_finish_reason="MAX_TOKENS"), "a reply cut at"),
    "cut, then stopped": (stream(*HALVES, chunk("length"), chunk("stop"), "data: [DONE]"), "a reply cut at"),
    "cut, said of the whole": (
        Respond({**completion(VERDICT).body, "incomplete_details": {"reason": "max_output_tokens"}}), "a reply cut at",
    ),
    "filtered": (message("content_filter", content=VERDICT), "ended (finish_reason 'content_filter')"),
    "filtered, in other words": (message("SAFETY", content=VERDICT), "ended (finish_reason 'SAFETY')"),
    "filtered, in an object": (message({"type": "content-filter"}, content=VERDICT), "'content-filter'"),
    "filtered in a stream": (stream(*HALVES, chunk("content_filter"), "data: [DONE]"), "'content_filter'"),
    "refused beside text": (message("refusal", content=VERDICT), "'refusal'"),
    "an error of the choice": (finished(error={"message": "upstream failed"}), "upstream failed"),
    "an error of the message": (message(content=VERDICT, error={"message": "upstream failed"}), "upstream failed"),
    "an error of the delta": (stream(*HALVES, chunk(error="upstream failed")), "upstream failed"),
    "an event called error, in words": (stream(*HALVES, "event: error\ndata: gone"), "gone"),
    "an event called error, without any": (stream(*HALVES, "event: error\ndata:"), "an error without a word"),
    "pings alone": (stream("data: ping", "data: ping"), "no chat completion"),
    "events alone": (stream("event: ping", "data:", ": hm"), "no chat completion"),
    "words alone": (stream("data: Internal server error", "data: [DONE]"), "no chat completion"),
    "a stream with half a line": (stream(*HALVES[:2], 'data: "content": "7}"}}]}', HALVES[2]), "no chat completion"),
    "cut while reasoning": (message("length", content=None, reasoning_content="Well"), "a reply cut at 10 tokens"),
    "content twice": (
        Respond(b'{"choices": [{"message": {"content": "{\\"rating\\": 1}", "content": "{\\"rating\\": 7}"}}]}'),
        "no chat completion",
    ),
    "a stream of other things": (stream('data: {"choices": ['), "no chat completion"),
    "a stream with a gap": (stream(HALVES[0], 'data: {"choices": [', *HALVES[1:]), "no chat completion"),
    "an empty stream": (stream(": keep-alive", "data: [DONE]"), "no chat completion"),
    "brackets": (Respond(b"[" * 100_000), "no chat completion"),
    "brackets in an error": (Respond(b'{"error":' * 300 + b"1" + b"}" * 300), "no chat completion"),
    "comments alone": (Respond(b": waiting\n: waiting"), "no chat completion"),
    "nothing": (Respond(b""), "no chat completion"),
    "half of gzip": (
        Respond(gzip.compress(WHOLE)[:40], headers=ZIPPED),
        "no c",
    ),
}  # fmt: skip


def replies(cases: dict[str, Respond]) -> dict[str, Any]:
    """The judge's score of each case, all of one server and one judge."""

    def behave(request: Request) -> Respond:
        text = request.body["messages"][1]["content"]
        return next(case for name, case in cases.items() if f"\n({name})\n" in text)

    with Server(behave) as server, judge(server.url) as scorer:
        return dict(zip(cases, score(scorer, *(f"({name})" for name in cases)), strict=True))


def test_what_can_be_read_is_read() -> None:
    """7 everywhere; 100 and 10 tokens at a dollar per million, where the reply counts them."""
    scores = replies(RIGHT)
    assert {name: (one.status, one.reward, one.reason) for name, one in scores.items()} == dict.fromkeys(
        RIGHT, ("ok", 7.0, None)
    )
    counted = {name for name, reply in RIGHT.items() if b"prompt_tokens" in raw(reply) or b"input_tokens" in raw(reply)}
    costs = {name: one.cost for name, one in scores.items() if name in counted - COUNTED}
    assert costs == pytest.approx(dict.fromkeys(costs, 110e-6)) and len(costs) > 15
    assert {scores[name].cost for name in COUNTED} == {0.0}


def raw(reply: Respond) -> bytes:
    body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
    return gzip.decompress(body) if "Content-Encoding" in reply.headers else body


def test_what_cannot_be_read_fails_its_answer_with_a_reason() -> None:
    scores = replies({name: reply for name, (reply, _) in WRONG.items()})
    assert {name: (one.status, one.reward) for name, one in scores.items()} == dict.fromkeys(WRONG, ("error", None))
    told = {name: reason for name, (_, reason) in WRONG.items()}
    assert [name for name, one in scores.items() if told[name] not in str(one.reason)] == []


@pytest.mark.parametrize(
    "fault",
    [
        Respond({"error": {"code": 429, "message": "slow down"}}),
        Respond({"error": {"status": "503", "message": "busy"}}),
        Respond({"object": "error", "code": 500, "message": "boom"}),
        Respond({"error": {"message": "slow down", "type": "rate_limit_error"}}),
        Respond({"error": {"message": "busy", "code": 503.0}}),
        Respond({"error": {"error": {"message": "busy", "code": "Service Unavailable"}}}),
        finished(error={"code": 502, "message": "bad gateway"}),
        finished(error={"code": "503", "message": "busy"}, finish_reason="error"),
        finished(error={"code": 429, "message": "slow down"}, message={"content": None}),
        message("error", content=VERDICT, error={"status": 503}),
        message("insufficient_system_resource", content=VERDICT),
        message({"type": "abort", "message": "aborted"}, content=VERDICT),
        stream(*HALVES, chunk("abort"), "data: [DONE]"),
        stream(*HALVES, 'event: error\ndata: {"code": 429}', "data: [DONE]"),
        stream(*HALVES[:2]),
        Respond(stream(*HALVES).body[:-20]),
    ],
)
def test_an_error_that_may_pass_is_asked_again_though_its_status_is_200(fault: Respond) -> None:
    with (
        Server(lambda request: completion(VERDICT) if request.number else fault) as server,
        judge(server.url) as scorer,
    ):
        [one] = score(scorer, "cat")
    assert (one.status, one.reward, len(server.requests)) == ("ok", 7.0, 2)


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        ('{"error": {"message": "no", "code": 404}}', "no", 404),
        ('{"error": {"code": "429"}, "detail": "later"}', '{"code": "429"}', 429),
        (
            '{"detail": [{"loc": ["body", "max_tokens"], "msg": "not permitted"}]}',
            "body.max_tokens: not permitted",
            None,
        ),
        ('{"errors": ["one", {"message": "two"}]}', "one; two", None),
        ('{"error": {"error": {"message": "deep"}}}', "deep", None),
        ('{"code": 1004, "msg": "of its own numbers"}', "of its own numbers", None),
        ("[1, 2]", "[1, 2]", None),
        ('"text"', "text", None),
    ],
)
def test_what_an_error_says(body: str, message: str, code: int | None) -> None:
    assert (message_of(body), error_code(parse_body(body))) == (message, code)
