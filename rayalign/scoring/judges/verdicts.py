"""What a judge's reply says: its last structured verdict, read strictly. What does not parse is no verdict."""

from __future__ import annotations

import json
import re
from typing import Any

from rayalign.display import excerpt
from rayalign.errors import DataError

_AFTER = re.compile(r"\s*(?:```)?\s*\Z")


def last_object(text: str) -> dict[str, Any]:
    """The JSON object that a reply ends with; objects before it, such as quotations, do not count.

    Only white space or a closing code fence may follow it: a reply that goes on after an object has not given it as
    its verdict.

    Raises:
        DataError: there is no such object, or a key stands twice in it, or a number in it is not finite.
    """
    decoder = json.JSONDecoder(object_pairs_hook=_distinct, parse_constant=_no_constant)
    found, end, broken_to = None, 0, 0
    start = text.find("{")
    while start >= 0:
        try:
            found, end = decoder.raw_decode(text, start)
        except json.JSONDecodeError as error:
            found, end = None, start + 1
            broken_to = max(broken_to, error.pos)
        except RecursionError:
            raise DataError("a reply of very many brackets", "it does not end with a JSON object") from None
        # An object inside one that breaks off later is a part of that one, whatever it says.
        if start < broken_to:
            found = None
        start = text.find("{", end)
    if not isinstance(found, dict) or not _AFTER.match(text, end):
        raise DataError(f"the reply {excerpt(text)}", "it does not end with a JSON object")
    return found


def sole_object(text: str) -> dict[str, Any]:
    """The JSON object that a reply is, with nothing around it but white space.

    Raises:
        DataError: the reply is anything else; and as in `last_object`.
    """
    if not text.lstrip().startswith("{"):
        raise DataError(f"the reply {excerpt(text)}", "it is not one JSON object")
    try:
        return json.loads(text, object_pairs_hook=_distinct, parse_constant=_no_constant)
    except (json.JSONDecodeError, RecursionError):
        raise DataError(f"the reply {excerpt(text)}", "it is not one JSON object") from None


def read_fields(found: dict[str, Any], **kinds: type) -> dict[str, Any]:
    """`found`, if it has exactly the fields of `kinds`, each of exactly that type.

    Raises:
        DataError: other fields, or other types (true is no whole number, "8" is none either).
    """
    if found.keys() != kinds.keys():
        raise DataError(
            f"a verdict with the fields {', '.join(sorted(found)) or '(none)'}",
            f"it must have {', '.join(sorted(kinds))}",
        )
    for name, kind in kinds.items():
        if type(found[name]) is not kind:
            raise DataError(f"a verdict whose {name} is {excerpt(repr(found[name]))}", f"it must be {kind.__name__}")
    return found


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise DataError("a verdict in which a field stands twice", "it is unclear which of them counts")
    return found


def _no_constant(name: str) -> float:
    raise DataError(f"a verdict with {name}", "it is not a number")
