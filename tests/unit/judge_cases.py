"""Prompts, samples and judges behind hand-written transports, for the tests of judges and remote scorers."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from rayalign.config.services import CallLimits, Prices
from rayalign.records import Message, Prompt, Sample
from rayalign.scoring.judges.llm_judge import LLMJudge
from rayalign.scoring.judges.templates import Template, TemplateName, make_template
from rayalign.scoring.services.calls import Caller
from rayalign.scoring.services.transport import Reply


def prompt(text: str = "List two animals.", **metadata: Any) -> Prompt:
    return Prompt(f"id of {text}", [{"role": "user", "content": text}], [1], metadata=metadata)


def samples(owner: Prompt, *texts: str) -> list[Sample]:
    return [Sample(owner.id, i, text, [1], [0.0], "stop", 0, 0) for i, text in enumerate(texts)]


class FakeTransport:
    """Answers with what a function of the messages returns (a `Reply`, or an object sent as JSON); keeps them all."""

    def __init__(self, answer: Callable[[Sequence[Message]], Any]) -> None:
        self._answer = answer
        self.sent: list[list[Message]] = []
        self.schemas: list[dict[str, Any]] = []
        self.seeds: list[int] = []

    async def complete(self, messages: Sequence[Message], schema: dict[str, Any], seed: int) -> Reply:
        self.sent.append(list(messages))
        self.schemas.append(schema)
        self.seeds.append(seed)
        answer = self._answer(messages)
        return answer if isinstance(answer, Reply) else Reply(json.dumps(answer), False, 100, 10)

    async def check(self) -> None:
        """It is always there."""

    async def close(self) -> None:
        """Nothing to close."""


def judge(
    template: TemplateName,
    answer: Callable[[Sequence[Message]], Any],
    *,
    rubric: str | None = None,
    reasons: bool = False,
    structured: bool = True,
    seed: int = 0,
    opponents: int = 0,
    own: Template | None = None,
    **others: Any,
) -> tuple[LLMJudge, FakeTransport]:
    transport = FakeTransport(answer)
    made = LLMJudge(
        f"judge:{template}:fake",
        own or make_template(template, rubric, reasons=reasons, structured=structured),
        transport,
        Caller(CallLimits(retries=0)),
        **{"identity": "fake", "max_tokens": 64, "prices": Prices(input=1.0, output=10.0), **others},
        seed=seed,
        opponents=opponents,
    )
    return made, transport


def shown(messages: Sequence[Message], label: str) -> str:
    """The text that stands in a message's block."""
    user = messages[-1]["content"]
    nonce = messages[0]["content"].partition("<<name ")[2].partition(">>")[0]
    return user.partition(f"<<{label} {nonce}>>\n")[2].partition(f"\n<<end of {label} {nonce}>>")[0]
