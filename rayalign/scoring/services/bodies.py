"""What the body of an HTTP reply holds: JSON, read strictly, and what an error says in it."""

from __future__ import annotations

import json
from collections.abc import Mapping

_MESSAGES = ("error", "message", "Message", "msg", "detail", "errors", "title")
_CODES = ("code", "status", "status_code", "http_status", "type")
_NAMED = {
    "rate_limit_exceeded": 429, "rate_limit_error": 429, "rate_limit": 429, "too_many_requests": 429,
    "resource_exhausted": 429, "server_error": 500, "internal_server_error": 500, "internal_error": 500,
    "api_error": 500, "internal": 500, "bad_gateway": 502, "service_unavailable": 503, "unavailable": 503,
    "overloaded": 503, "overloaded_error": 503, "server_overloaded": 503, "engine_overloaded": 503, "timeout": 504,
    "timeout_error": 504, "gateway_timeout": 504, "deadline_exceeded": 504,
}  # fmt: skip
"""Statuses by the words that stand in their place."""


def parse_body(body: str | bytes, *, finite: bool = False) -> object:
    """The JSON value that a body is; a byte order mark before it does not count.

    Args:
        finite: refuse NaN and the infinities, which are no JSON and which Python reads.

    Raises:
        ValueError: it is no JSON, a number has thousands of digits, brackets nest without end, or a key stands twice
            in an object with different values, of which one would be lost.
    """
    text = body.removeprefix("\ufeff") if isinstance(body, str) else body
    try:
        return json.loads(text, object_pairs_hook=_distinct, parse_constant=_refused if finite else None)
    except RecursionError:
        raise ValueError("brackets nest too deep") from None


def message_of(body: str) -> str:
    """What an error's body says in words; the body itself where it has none of the usual forms.

    >>> message_of('{"error": {"message": "no such model", "code": 404}}'), message_of("<html>busy</html>")
    ('no such model', '<html>busy</html>')
    """
    try:
        return _message(parse_body(body)) or body
    except (ValueError, RecursionError):
        return body


def error_code(body: object) -> int | None:
    """The HTTP status that the body of an error names, which a gateway may have sent with status 200."""
    places: list[Mapping[str, object]] = []
    while isinstance(body, Mapping):
        places.append(body)
        body = body.get("error")
    codes = (_status(place.get(name)) for place in reversed(places) for name in _CODES)
    return next((code for code in codes if code is not None), None)


def _status(value: object) -> int | None:
    """A number of three digits, or the status of a word for one."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int | str) or isinstance(value, bool):
        return None
    text = str(value).strip().lower()
    if text.isascii() and text.isdigit() and len(text) == 3:
        return int(text)
    return _NAMED.get(text.replace(" ", "_"))


def _message(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "; ".join(filter(None, map(_message, value)))
    if isinstance(value, Mapping):
        # Where in the request the mistake is, as servers that check it by a schema say.
        place = value.get("loc")
        where = f"{'.'.join(map(str, place))}: " if isinstance(place, list) else ""
        for name in _MESSAGES:
            if value.get(name):
                return where + (_message(value[name]) or json.dumps(value[name]))
    return ""


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs) and any(found[name] != value for name, value in pairs):
        raise ValueError("a key stands twice in an object")
    return found


def _refused(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")
