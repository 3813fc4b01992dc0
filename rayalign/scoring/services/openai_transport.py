"""Transport to an OpenAI-compatible endpoint: chat completions with a JSON schema for the reply."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from rayalign.errors import ConfigError
from rayalign.records import JsonObject, Message
from rayalign.scoring.services.bodies import parse_body
from rayalign.scoring.services.calls import Failure, http_failure
from rayalign.scoring.services.completions import read_completion
from rayalign.scoring.services.transport import CHECK_TIMEOUT_S, Key, Reply

if TYPE_CHECKING:
    from openai import AsyncOpenAI

T = TypeVar("T")
_NAMED = 10


class OpenAITransport:
    """One model of one endpoint.

    Args:
        structured: send the schema as `response_format`, which vLLM and others turn into constrained decoding.
        request: parameters to send beside or in place of these; null leaves one out.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        key: Key,
        *,
        temperature: float,
        max_tokens: int,
        structured: bool,
        request: Mapping[str, object] | None = None,
    ) -> None:
        self.name = f"base_url: {base_url}, model: {model}"
        self._base_url, self._model, self._key = base_url, model, key
        self._settings = {"temperature": temperature, "max_tokens": max_tokens}
        self._structured = structured
        self._request = request or {}
        self._client: AsyncOpenAI | None = None

    async def complete(self, messages: Sequence[Message], schema: JsonObject, seed: int) -> Reply:
        """The model's reply to `messages`.

        Raises:
            Failure: no connection, an HTTP error, or a body that is no chat completion.
        """
        create: Any = self._connected().chat.completions.with_raw_response.create
        # As extra, because the client refuses what it does not know.
        body = self._parameters(schema, seed)
        raw = await self._call(create(model=self._model, messages=messages, extra_body=body))
        return read_completion(raw.text, self._key)

    def _parameters(self, schema: JsonObject, seed: int) -> JsonObject:
        """What is sent beside model and messages."""
        own: JsonObject = {**self._settings}
        if self._structured:
            own["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "verdict", "schema": schema, "strict": True},
            }
        if own["temperature"] if "temperature" not in self._request else self._request["temperature"]:
            own["seed"] = seed
        return {name: value for name, value in {**own, **self._request}.items() if value is not None}

    async def check(self) -> str | None:
        """See that the endpoint answers, and what it says of its models; many give no list, or one without aliases.

        Raises:
            ConfigError: it cannot be reached.
        """
        client = self._connected().with_options(timeout=CHECK_TIMEOUT_S)
        try:
            raw = await self._call(client.models.with_raw_response.list())
        except Failure as failure:
            if failure.code is not None:
                return f"its list of models is {failure.reason}"
            why = f"the judge's endpoint cannot be used: {failure.reason}"
            remedy = "start it, or mend base_url and api_key_env; nothing has been sampled"
            raise ConfigError(f"base_url: {self._base_url}", why, remedy) from None
        served = _names(raw.text)
        if self._model in served:
            return None
        return f"it serves {', '.join(served[:_NAMED])}" if served else "it gives no list of models"

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    def _connected(self) -> AsyncOpenAI:
        if self._client is None:
            from openai import AsyncOpenAI

            # Retries and time limits are the caller's. The client insists on some key; local servers ignore it.
            self._client = AsyncOpenAI(
                base_url=self._base_url, api_key=self._key.reveal() or "none", max_retries=0, timeout=None
            )
        return self._client

    async def _call(self, request: Awaitable[T]) -> T:
        import openai

        try:
            return await request
        except openai.APIStatusError as error:
            detail = self._key.complaint(error.response.text)
            raise http_failure(error.status_code, detail, error.response.headers.get("retry-after")) from None
        except openai.APITimeoutError:
            raise Failure("timeout", "the connection timed out", again=True) from None
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            detail = self._key.reason(f"{type(cause).__name__}: {cause}")
            raise Failure("error", f"no connection: {detail}", again=True) from None
        except UnicodeEncodeError:
            # Prompts and answers are rid of them; a rubric and a model's name are the user's own.
            raise Failure("error", "a lone surrogate, which no request can carry, in the rubric or the model") from None
        except openai.OpenAIError as error:
            raise Failure("error", self._key.reason(f"{type(error).__name__}: {error}")) from None


def _names(body: str) -> list[str]:
    """Names in an endpoint's list of models; none where it is no such list."""
    try:
        listed = parse_body(body)
    except ValueError:
        return []
    models = listed.get("data") if isinstance(listed, Mapping) else listed
    entries = [one for one in models if isinstance(one, Mapping)] if isinstance(models, list) else []
    return [str(one["id"]) for one in entries if "id" in one]
