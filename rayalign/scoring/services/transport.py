"""What all services that score over the network share: keys, failures in words, and the check at the start."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rayalign.display import excerpt
from rayalign.errors import ConfigError
from rayalign.records import JsonObject, Message
from rayalign.scoring.services.bodies import error_code, message_of
from rayalign.scoring.services.calls import OK, Failure, may_pass, remedy_of

CHECK_TIMEOUT_S = 30.0
COMPLAINT_CHARACTERS = 300
_REFUSED = (
    "the judge's endpoint cannot be used",
    "mend base_url (it mostly ends in /v1), model or api_key_env; or what is sent, by request: for example "
    "request: {max_tokens: null, max_completion_tokens: 512}, where null leaves a parameter out",
)
_NO_VERDICT = (
    "the judge's replies give no verdict",
    "raise max_tokens, set structured to true or false as the endpoint takes it, name another model, or mend base_url "
    "(it mostly ends in /v1) or what is sent, by request: for example request: {reasoning_effort: low}",
)
"""Why a judge is refused before anything is sampled, and what to do."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model answered to one request."""

    text: str
    truncated: bool
    """It reached the token limit; a reply that was cut is no verdict."""
    input_tokens: int | None = None
    output_tokens: int | None = None
    """The reply's own tokens; None, as for the input, where the endpoint does not say."""


class Transport(Protocol):
    """Brings messages to a model and its reply back; one request per call, without retries."""

    name: str
    """What an error calls it: the keys of the config that say who is asked."""

    async def complete(self, messages: Sequence[Message], schema: JsonObject, seed: int) -> Reply:
        """The model's reply.

        Raises:
            Failure: there is none.
        """
        ...

    async def check(self) -> str | None:
        """See that somebody is there, without asking the model.

        Returns:
            None where the model is known to be served; otherwise what is known of that, in words.

        Raises:
            ConfigError: it cannot be reached.
        """
        ...

    async def close(self) -> None: ...


class Key:
    """An API key from the environment. Neither `repr` nor an error shows it.

    Raises:
        ConfigError: the variable is not set, or empty, or holds what no HTTP header can carry.
    """

    def __init__(self, variable: str | None) -> None:
        self._value = ""
        if variable is not None:
            self._value = os.environ.get(variable, "").strip()
            if not self._value:
                raise ConfigError(
                    f"api_key_env: {variable}",
                    "no such environment variable is set, or it is empty",
                    f"set {variable} to the key where the driver and every scorer actor run",
                )
            if not all("!" <= character <= "~" for character in self._value):
                raise ConfigError(
                    f"api_key_env: {variable}",
                    "its value holds a space, a line break or another character that no key has",
                    f"set {variable} to the key alone",
                )

    def reveal(self) -> str:
        return self._value

    def hide(self, text: str) -> str:
        """`text` with the key, which a service may echo in its complaint, taken out."""
        return text.replace(self._value, "***") if self._value else text

    def reason(self, text: str) -> str:
        """What a service said, short enough for a score's reason, on one line, without the key."""
        return excerpt(self.hide(text))

    def complaint(self, body: str) -> str:
        """The message of an error's body, as `reason`, and long enough to say what would be right."""
        return excerpt(self.hide(message_of(body)), COMPLAINT_CHARACTERS)


def unusable(what: str, said: str, value: object, key: Key) -> Failure:
    """The failure of a reply with status 200 that is not what was asked for.

    Args:
        what: it should have been, with "no" or "not" before it.
        said: its body, or the part of it that counts.
        value: the same, as far as it could be read; a gateway may have put the error of who is behind it there.
    """
    code = error_code(value)
    return Failure("error", f"{what}: {key.complaint(said)}", code is not None and may_pass(code), code=code or OK)


def replied(failure: Failure | None) -> bool:
    """Whether a judge said anything to a call, of use or not."""
    return failure is None or failure.code == OK


def judge_refusal(name: str, reason: str | None, failure: Failure | None, doubt: str | None) -> ConfigError:
    """Why a judge that gave no verdict to a canned answer is not used.

    Args:
        name: of its transport.
        failure: of the call, if it gave no completion.
        doubt: what its transport's check found.
    """
    why, remedy = _NO_VERDICT if replied(failure) else _REFUSED
    remedies = (None if failure is None else remedy_of(failure), remedy, doubt, "nothing has been sampled")
    return ConfigError(name, f"{why}: {reason}", "; ".join(one for one in remedies if one))
