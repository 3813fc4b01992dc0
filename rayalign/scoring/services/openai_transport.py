"""Transport to an OpenAI-compatible endpoint: chat completions with a JSON schema for the reply."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from rayalign.errors import ConfigError
from rayalign.records import JsonObject, Message
from rayalign.scoring.services.calls import Failure, http_failure
from rayalign.scoring.services.transport import CHECK_TIMEOUT_S, Key, Reply

if TYPE_CHECKING:
    from openai import AsyncOpenAI

T = TypeVar("T")


class OpenAITransport:
    """One model of one endpoint.

    Args:
        structured: send the schema as `response_format`, which vLLM and others turn into constrained decoding.
    """

    def __init__(
        self, base_url: str, model: str, key: Key, *, temperature: float, max_tokens: int, structured: bool
    ) -> None:
        self._base_url, self._model, self._key = base_url, model, key
        self._settings = {"temperature": temperature, "max_tokens": max_tokens}
        self._structured = structured
        self._client: AsyncOpenAI | None = None

    async def complete(self, messages: Sequence[Message], schema: JsonObject, seed: int) -> Reply:
        """The model's reply to `messages`.

        Raises:
            Failure: no connection, an HTTP error, or a body that is no chat completion.
        """
        form: dict[str, object] = {}
        if self._structured:
            form["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "verdict", "schema": schema, "strict": True},
            }
        if self._settings["temperature"] > 0:
            form["seed"] = seed
        create: Any = self._connected().chat.completions.with_raw_response.create
        raw = await self._call(create(model=self._model, messages=messages, **self._settings, **form))
        return self._read(raw.text)

    async def check(self) -> None:
        """See that the endpoint answers and serves the model.

        Raises:
            ConfigError: it cannot be reached, refuses the key, or does not serve the model.
        """
        found = f"base_url: {self._base_url}"
        try:
            client = self._connected().with_options(timeout=CHECK_TIMEOUT_S)
            raw = await self._call(client.models.with_raw_response.list())
        except Failure as failure:
            why = f"the judge's endpoint cannot be used: {failure.reason}"
            remedy = "start it, or mend base_url and api_key_env; nothing has been sampled"
            raise ConfigError(found, why, remedy) from None
        try:
            served = [str(model["id"]) for model in json.loads(raw.text)["data"]]
        except (ValueError, KeyError, TypeError):
            why = f"{self._base_url}/models gives {self._key.reason(raw.text)}, no list of models"
            remedy = "give the base URL of an OpenAI-compatible API, which mostly ends in /v1"
            raise ConfigError(found, why, remedy) from None
        if self._model not in served:
            raise ConfigError(
                f"model: {self._model}",
                f"{self._base_url} does not serve it",
                f"it serves {', '.join(served[:10]) or 'nothing'}",
            )

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
            detail = self._key.reason(error.response.text)
            raise http_failure(error.status_code, detail, error.response.headers.get("retry-after")) from None
        except openai.APITimeoutError:
            raise Failure("timeout", "the connection timed out", again=True) from None
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            detail = self._key.reason(f"{type(cause).__name__}: {cause}")
            raise Failure("error", f"no connection: {detail}", again=True) from None
        except openai.OpenAIError as error:
            raise Failure("error", self._key.reason(f"{type(error).__name__}: {error}")) from None

    def _read(self, body: str) -> Reply:
        try:
            data = json.loads(body)
            [choice] = data["choices"]
            text = choice["message"]["content"]
            usage = data.get("usage") or {}
            tokens = usage.get("prompt_tokens"), usage.get("completion_tokens")
            truncated = choice["finish_reason"] == "length"
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Failure("error", f"no chat completion: {self._key.reason(body)}") from None
        if not isinstance(text, str):
            raise Failure("error", f"a message without text ({self._key.reason(str(choice.get('finish_reason')))})")
        if not all(count is None or type(count) is int for count in tokens):
            raise Failure("error", f"no token counts: {self._key.reason(str(usage))}")
        return Reply(text, truncated, *tokens)
