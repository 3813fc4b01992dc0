"""What the body of an HTTP reply holds: JSON, read strictly, and what an error says in it."""

from __future__ import annotations

import json
from collections.abc import Mapping

_MESSAGES = ("error", "message", "Message", "msg", "detail", "errors", "title")
_CODES = ("code", "status", "status_code", "http_status")


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
    places = (body.get("error"), body) if isinstance(body, Mapping) else ()
    for place in places:
        if not isinstance(place, Mapping):
            continue
        for name in _CODES:
            code = place.get(name)
            if isinstance(code, int | str) and str(code).isascii() and str(code).isdigit() and len(str(code)) == 3:
                return int(code)
    return None


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
