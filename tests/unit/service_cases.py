"""Judge and remote scorer of a test server, for the tests of services."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import openai  # noqa: F401 - takes seconds on a busy machine: not to be paid by a test's first call

from rayalign.config.services import CallLimits, Prices
from rayalign.records import Score
from rayalign.scoring.judges.llm_judge import LLMJudge
from rayalign.scoring.judges.templates import make_template
from rayalign.scoring.services.calls import Caller
from rayalign.scoring.services.openai_transport import OpenAITransport
from rayalign.scoring.services.remote import RemoteScorer
from rayalign.scoring.services.transport import Key
from tests.http_server import Request, Respond, completion
from tests.unit.judge_cases import prompt, samples

KEY = "sk-very-secret-123"
PROMPT = prompt()
# Only a test of a server that hangs waits for the time limit; a busy machine may take seconds for any reply.
PATIENT = CallLimits(timeout_s=60, retries=2, concurrency=8)


def rewards(request: Request) -> Respond:
    """A right reply: the number in each response."""
    scores = [{"id": item["id"], "reward": float(item["response"])} for item in request.body["items"]]
    return Respond({"scores": scores})


def rating(request: Request) -> Respond:
    return completion(f'{{"rating": {request.body["messages"][1]["content"].count("cat")}}}')


@contextmanager
def remote(url: str, limits: CallLimits = PATIENT, **others: Any) -> Iterator[RemoteScorer]:
    key = Key(others.pop("key", None))
    scorer = RemoteScorer("remote:test", url, "1", key, Caller(limits), **{"batch": 2, **others})
    try:
        yield scorer
    finally:
        scorer.close()


@contextmanager
def judge(url: str, limits: CallLimits = PATIENT, model: str = "judge", **others: Any) -> Iterator[LLMJudge]:
    key = Key(others.pop("key", None))
    temperature = others.pop("temperature", 0.0)
    sent: dict[str, Any] = {"temperature": temperature, "max_tokens": 32, "structured": True}
    transport = OpenAITransport(f"{url}/v1", model, key, **sent, request=others.pop("request", {}))
    template = make_template(others.pop("template", "rating"), None, reasons=False, structured=True)
    settings: dict[str, Any] = {"identity": "test", "seed": 0, "max_tokens": 32, "prices": Prices(input=1, output=1)}
    scorer = LLMJudge("judge:test", template, transport, Caller(limits), **{**settings, **others})
    try:
        yield scorer
    finally:
        scorer.close()


def score(scorer: RemoteScorer | LLMJudge, *texts: str) -> list[Score]:
    return scorer.score([PROMPT] * len(texts), samples(PROMPT, *texts))


def results(scores: list[Score]) -> list[tuple[str, float | None]]:
    return [(one.status, one.reward) for one in scores]
