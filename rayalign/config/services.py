"""Scorers that call a service or a model behind an endpoint: judges and remote scorers."""

from __future__ import annotations

import json
import re
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from rayalign.config.base import NotNegative, Positive, Section
from rayalign.config.rewards import RewardScoring, Weight, last_part
from rayalign.records import JsonObject


class CallLimits(Section):
    """Limits on the calls of one scorer, over all scorer actors of the run."""

    concurrency: Annotated[int, Field(ge=1)] = 32
    requests_per_minute: Positive | None = None
    tokens_per_minute: Positive | None = None
    timeout_s: Positive = 60
    """Limit of one request, until its reply is complete."""
    retries: Annotated[int, Field(ge=0)] = 5
    """Attempts after the first one."""

    def share(self, actors: int) -> CallLimits:
        """The limits of one of several actors."""
        per = {
            name: value / actors
            for name in ("requests_per_minute", "tokens_per_minute")
            if (value := getattr(self, name)) is not None
        }
        return self.model_copy(update={"concurrency": max(1, self.concurrency // actors), **per})


class Prices(Section):
    """US dollars per million tokens."""

    input: NotNegative = 0.0
    output: NotNegative = 0.0


class RubricFile(Section):
    file: Annotated[str, Field(min_length=1)]


def _variable(name: str) -> str:
    # A key pasted here by mistake must not be shown, so the message does not repeat the value.
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError("it must be the name of an environment variable, such as JUDGE_API_KEY, and not the key")
    return name


Variable = Annotated[str, AfterValidator(_variable)]


class ServiceScoring(RewardScoring):
    """What the scorers that call a service share."""

    api_key_env: Variable | None = None
    """Name of the environment variable that holds the key; never the key."""
    limits: CallLimits = CallLimits()
    cache: Annotated[str, Field(min_length=1)] | None = None
    """Folder of results that are not asked for twice; several runs and processes may share it. Null: the run's own."""


_COMPLETIONS = "/chat/completions"
_OWNED = {
    "model": "set the judge's model",
    "messages": "the judge's template writes them",
    "n": "one reply counts; it can be 1, or null",
    "api_key": "name the environment variable that holds it in api_key_env",
    "extra_body": "write its keys into request itself",
    "extra_headers": "headers cannot be set",
    "extra_query": "base_url takes no query",
    "timeout": "set limits.timeout_s",
}
"""Keys that `request` does not take, and what to do instead."""
_LIMITS = ("max_completion_tokens", "max_tokens")
_TELLS_NOTHING = {"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "priority",
                  "stream", "stream_options", "logprobs", "top_logprobs"}  # fmt: skip
"""Parameters of a request on which the text of the reply does not hang."""
_OURS = object()
"""Stands for a value that differs from all that a config can set."""


def _request(request: JsonObject) -> JsonObject:
    """What a judge's `request` holds, as JSON has it; a ValueError says what cannot be sent."""
    for name, value in request.items():
        if name in _OWNED and not (name == "n" and value in (1, None)):
            raise ValueError(f"{name} cannot be set in request: {_OWNED[name]}")
        whole = name in _LIMITS and (not isinstance(value, int) or isinstance(value, bool) or value < 1)
        number = name == "temperature" and (not isinstance(value, int | float) or isinstance(value, bool) or value < 0)
        if value is not None and (whole or number):
            kind = "a whole number from 1 on" if whole else "a number from 0 on"
            raise ValueError(f"{name} must be {kind}, or null, which leaves it out")
    try:
        text = json.dumps(request, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"a request holds what JSON and UTF-8 can hold: {error}") from None
    # Keys are text at every depth then, as they are sent.
    return json.loads(text)


_FOREIGN = {"demo": None, "openai": ("dtype", "context"), "vllm": ("base_url", "api_key_env", "request")}
"""Keys of a judge that a transport does not take; null: it takes none."""


class JudgeScoring(ServiceScoring):
    """A judge that writes what is wrong, rates, or compares. `cut` gives judgments; the others give rewards."""

    type: Literal["judge"]
    transport: Literal["demo", "openai", "vllm"]
    """`demo`: the demo world's own judge. `openai`: any OpenAI-compatible endpoint. `vllm`: an actor of the run."""
    base_url: str | None = None
    model: Annotated[str, Field(min_length=1)] | None = None
    """`openai`: name under which the endpoint serves the judge. `vllm`: `demo` (the demo policy, which cannot judge),
    `smollm2`, a local Hugging Face folder, a GGUF file, or a hub id."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """`vllm`: the data type of the judge's weights."""
    context: Annotated[int, Field(ge=64)] | None = None
    """`vllm`: longest question and reply together, in tokens, for which room is kept; null is the model's context."""
    template: Literal["cut", "rating", "pairwise"] = "cut"
    rubric: Annotated[str, Field(min_length=1)] | RubricFile | None = None
    reasons: bool = True
    """The judge writes its reasons before a rating or a choice."""
    structured: bool = True
    """Ask the endpoint to constrain replies to the template's JSON schema."""
    opponents: Annotated[int, Field(ge=0)] = 0
    """`pairwise`: how many of the following answers each answer meets; 0 is every other one."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    max_tokens: Annotated[int, Field(ge=1)] = 512
    request: Annotated[JsonObject, AfterValidator(_request)] = Field(default_factory=dict)
    """`openai`: parameters of the request by the endpoint's names for them; null leaves out what would be sent."""
    prices: Prices = Prices()
    weight: Weight = 0.0
    """1 where the template gives rewards, 0 where it gives judgments alone."""

    @property
    def name(self) -> str:
        if self.model is None:
            return f"judge:{self.transport}"
        return f"judge:{self.template}:{last_part(self.model)}"

    @property
    def reply_tokens(self) -> int:
        """The longest reply that is asked for, as far as the config says."""
        return next((limit for name in _LIMITS if (limit := self.request.get(name)) is not None), self.max_tokens)

    @property
    def other_request(self) -> JsonObject:
        """The part of `request` that asks for other replies than the other keys do by themselves."""
        own: JsonObject = {"temperature": self.temperature, "max_tokens": self.max_tokens}
        if self.structured:
            own["response_format"] = _OURS
        if self.request.get("temperature", self.temperature):
            own["seed"] = _OURS
        changed = {name: value for name, value in self.request.items() if value != own.get(name)}
        return {name: value for name, value in changed.items() if name not in _TELLS_NOTHING}

    @model_validator(mode="before")
    @classmethod
    def _weigh(cls, data: object) -> object:
        if isinstance(data, dict) and data.get("template") in ("rating", "pairwise"):
            return {"weight": 1.0, **data}
        return data

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        foreign = _FOREIGN[self.transport]
        for name in type(self).model_fields if foreign is None else foreign:
            default = type(self).model_fields[name].get_default(call_default_factory=True)
            if getattr(self, name) != default and name not in ("type", "transport"):
                raise ValueError(
                    f"transport: {self.transport} takes no {name}: remove it, or set transport: "
                    f"{'openai' if self.transport != 'openai' else 'vllm'}"
                )
        if self.transport == "demo":
            return self
        if self.model is None:
            raise ValueError(f"transport: {self.transport} needs model")
        if self.transport == "openai":
            if self.base_url is None:
                raise ValueError("transport: openai needs base_url, for example http://127.0.0.1:8000/v1")
            check_url("base_url", self.base_url)
            if self.base_url.rstrip("/").endswith(_COMPLETIONS):
                raise ValueError(f"base_url ends in {_COMPLETIONS}, which is added to it: leave it out")
        if self.template == "cut" and self.weight:
            raise ValueError("template: cut gives judgments and no reward: set weight: 0, or template: rating")
        if self.template == "cut" and self.calibration != "none":
            raise ValueError("template: cut gives no reward to calibrate: remove calibration, or set template: rating")
        return self


class RemoteScoring(ServiceScoring):
    """An HTTP service of the user's own that gives rewards (docs/judges.md has its wire format)."""

    type: Literal["remote"]
    url: str
    version: str = "1"
    """Version of what the service computes: raise it when that changes, so that cached rewards no longer count."""
    batch: Annotated[int, Field(ge=1)] = 16
    """How many responses one request holds."""

    @property
    def name(self) -> str:
        parts = urlsplit(self.url)
        return f"remote:{parts.netloc}{parts.path.rstrip('/')}"

    @model_validator(mode="after")
    def _usable(self) -> Self:
        check_url("url", self.url)
        return self


def check_url(key: str, url: str) -> None:
    """Refuse what is no service's address.

    Raises:
        ValueError: not an http(s) URL, or one with credentials, which would stand in logs and run folders.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise ValueError(f"{key} is not a URL; write it as in http://127.0.0.1:8000/v1") from None
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError(
            f"{key} holds a user, a query or a fragment: put the key into an environment variable and "
            "name it in api_key_env"
        )
    if not usable:
        raise ValueError(f"{key} is not an http or https URL; write it as in http://127.0.0.1:8000/v1")
