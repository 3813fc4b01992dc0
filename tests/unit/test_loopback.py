"""A judge behind an OpenAI-compatible address on loopback: who may ask, what it is asked, what comes of failures."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from rayalign.config.services import CallLimits
from rayalign.records import JsonObject, Message
from rayalign.scoring.services.calls import Caller, Failure
from rayalign.scoring.services.loopback import Loopback, read_messages
from rayalign.scoring.services.transport import Reply

HELLO = [{"role": "user", "content": "hello"}]


class FakeTransport:
    """Gives its replies one after the other, then the last one again; a `Failure` among them is raised."""

    name = "fake"

    def __init__(self, *replies: Reply | Failure) -> None:
        self.replies, self.asked = list(replies), list[tuple[list[Message], JsonObject, int]]()

    async def complete(self, messages: Sequence[Message], schema: JsonObject, seed: int) -> Reply:
        self.asked.append((list(messages), schema, seed))
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, Failure):
            raise reply
        return reply

    async def check(self) -> str | None:
        return None

    async def close(self) -> None: ...


async def no_sleep(_: float) -> None: ...


@pytest.fixture
def transport() -> FakeTransport:
    return FakeTransport(Reply("fine", False, 5, 2))


@pytest.fixture
def loopback(transport: FakeTransport) -> Iterator[Loopback]:
    with Loopback(transport, Caller(CallLimits(retries=1), sleep=no_sleep), {"type": "object"}) as served:
        yield served


def post(
    loopback: Loopback, body: object, token: str | None = None, path: str = "/chat/completions"
) -> tuple[int, Any]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {loopback.token if token is None else token}"}
    request = urllib.request.Request(f"{loopback.url}{path}", content, headers)
    try:
        with urllib.request.urlopen(request) as reply:
            return reply.status, json.loads(reply.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_a_question_reaches_the_judge_with_the_schema(loopback: Loopback, transport: FakeTransport) -> None:
    status, reply = post(loopback, {"messages": HELLO, "model": "whatever", "temperature": 2})
    assert (status, reply["choices"][0]["message"]["content"]) == (200, "fine")
    assert reply["usage"] == {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    [(messages, schema, seed)] = transport.asked
    assert (messages, schema) == (HELLO, {"type": "object"})
    post(loopback, {"messages": HELLO})
    assert transport.asked[1][2] == seed


@pytest.mark.parametrize("token", ["", "wrong"])
def test_who_has_not_the_token_is_refused(loopback: Loopback, transport: FakeTransport, token: str) -> None:
    assert post(loopback, {"messages": HELLO}, token)[0] == 401
    assert transport.asked == []


def test_other_paths_and_bodies_are_refused(loopback: Loopback, transport: FakeTransport) -> None:
    assert post(loopback, {"messages": HELLO}, path="/models")[0] == 404
    assert post(loopback, b"{broken")[0] == 400
    assert post(loopback, {"messages": "hello"})[0] == 400
    assert transport.asked == []


@pytest.mark.parametrize(
    "messages", [None, [], ["a"], [{"role": "tool", "content": "a"}], [{"role": "user", "content": [1]}]]
)
def test_messages_that_cannot_be_sent_on(messages: object) -> None:
    assert read_messages(json.dumps({"messages": messages}).encode()) is None


@pytest.mark.parametrize(
    ("reply", "reason"),
    [(Failure("error", "HTTP 400: no"), "HTTP 400: no"), (Reply("half a", True), "a reply that was cut")],
)
def test_what_failed_is_an_empty_reply_with_a_reason(reply: Reply | Failure, reason: str) -> None:
    transport = FakeTransport(reply)
    with Loopback(transport, Caller(CallLimits(retries=0)), {}) as loopback:
        status, said = post(loopback, {"messages": HELLO})
        assert (status, said["choices"][0]["message"]["content"]) == (200, "")
        assert loopback.failures[0].startswith(reason)


def test_what_may_pass_is_tried_again() -> None:
    transport = FakeTransport(Failure("error", "busy", again=True), Reply("fine", False))
    with Loopback(transport, Caller(CallLimits(retries=1), sleep=no_sleep), {}) as loopback:
        assert post(loopback, {"messages": HELLO})[1]["choices"][0]["message"]["content"] == "fine"
        assert (loopback.asked, loopback.failures) == (1, [])
