"""Values as JSON has them, whatever a row's source hands over. Pure.

`plain` is applied to a row before it is read, `strict` to its metadata afterwards: in between a number may still be
infinite or a decimal, so that a reader can say so of a score.

date, time, interval   text in ISO 8601             UUID             text
bytes                  text where they are UTF-8    map              object, where its keys differ; else pairs
set, tuple, array      list                         numpy's scalars  Python's
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from uuid import UUID

from rayalign.data.dataset import BadRow
from rayalign.records import JsonObject

MAX_DEPTH = 100
"""Lists and objects within each other that a row may have."""
MAX_BITS = 14_000
"""Of an integer that Python writes in digits: its limit is 4,300 of them."""
_SIMPLE = frozenset({str, int, float, bool, type(None)})
_TEXT = frozenset({str})
_STRICT = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


def plain_row(record: Mapping[object, object]) -> JsonObject:
    """The row with values of JSON's kinds, and numbers, decimals and bytes that JSON cannot hold.

    Raises:
        BadRow: a value has no such form; the reason names its field.
    """
    return _object(record, "the row", 0)


def plain(value: object, field: str, depth: int = 0) -> object:
    """One value of a row, `depth` levels down in its `field`."""
    kind = type(value)
    if kind in _SIMPLE or _is_plain(value):
        return value
    if depth == MAX_DEPTH:
        raise BadRow(f"{field} has more than {MAX_DEPTH} lists or objects within each other")
    if kind is dict or isinstance(value, Mapping):
        return _object(value, field, depth)  # type: ignore[arg-type]
    if (
        isinstance(value, list)
        and value
        and type(value[0]) is tuple
        and all(type(item) is tuple and len(item) == 2 for item in value)
    ):
        # pyarrow gives a map as (key, value) tuples, which no other source has.
        pairs = [(_key(key, field), plain(item, field, depth + 1)) for key, item in value]
        return dict(pairs) if len(dict(pairs)) == len(pairs) else [list(pair) for pair in pairs]
    if isinstance(value, set | frozenset):
        return sorted((plain(item, field, depth + 1) for item in value), key=repr)
    if isinstance(value, list | tuple) and not hasattr(value, "nanoseconds"):
        return [plain(item, field, depth + 1) for item in value]
    return _scalar(value, field, depth)


def _is_plain(value: object) -> bool:
    """Whether this is a list, or an object with texts as keys, of values that JSON has itself: most are."""
    if type(value) is list:
        return _SIMPLE.issuperset(map(type, value))
    return type(value) is dict and _SIMPLE.issuperset(map(type, value.values())) and _TEXT.issuperset(map(type, value))


def object_of(pairs: list[tuple[str, object]]) -> object:
    """An object of JSON by its pairs; one that says two things under one key is a `BadRow`, which `plain` raises."""
    found: JsonObject = {}
    for key, value in pairs:
        if key in found and found[key] != value:
            return BadRow("a key of JSON stands twice", f"{key} stands twice, and says two things", TWICE, ONCE)
        found[key] = value
    return found


TWICE = "one would hide the other"
ONCE = "leave one of them, or rename it"


def strict(metadata: JsonObject) -> JsonObject:
    """Metadata that every later reader of JSON takes: NaN is null, infinity and decimals are text, bytes base64.

    Raises:
        BadRow: a text that is not valid Unicode, or an integer of more digits than Python writes.
    """
    try:
        text = _STRICT.encode(metadata)
    except (TypeError, ValueError):
        metadata = {key: _strict(value, key) for key, value in metadata.items()}
        text = _STRICT.encode(metadata)
    if not _is_unicode(text):
        odd = next(
            key for key, value in metadata.items() if not _is_unicode(json.dumps({key: value}, ensure_ascii=False))
        )
        raise BadRow(f"{odd} is {BAD_UNICODE}")
    return metadata


BAD_UNICODE = "not valid Unicode (half of a surrogate pair)"


def unicode_text(value: str) -> str:
    """The text itself.

    Raises:
        BadRow: UTF-8 cannot hold it.
    """
    if not _is_unicode(value):
        raise BadRow(BAD_UNICODE)
    return value


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _object(record: Mapping[object, object], field: str, depth: int) -> JsonObject:
    named = {key if type(key) is str else _key(key, field): value for key, value in record.items()}
    if len(named) < len(record):
        raise BadRow(f"{field} has two keys of the same text")
    # On the way down a field's name stays that of the row's own field.
    return {key: plain(value, field if depth else key, depth + 1) for key, value in named.items()}


def _key(key: object, field: str) -> str:
    if isinstance(key, str):
        return key
    text = plain(key, field)
    return text if isinstance(text, str) else json.dumps(_strict(text, field))


def _scalar(value: object, field: str, depth: int) -> object:
    if isinstance(value, BadRow):
        raise value
    if isinstance(value, Decimal) and value.is_nan():
        return math.nan
    if isinstance(value, str | int | float | Decimal):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        try:
            return bytes(value).decode()
        except UnicodeDecodeError:
            return bytes(value)
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, timedelta):
        return _duration(value.days, value.seconds, value.microseconds * 1000)
    if hasattr(value, "nanoseconds") and isinstance(value, tuple):
        months, days, nanoseconds = value
        return _duration(days, 0, nanoseconds, months)
    if isinstance(value, date | time):
        return value.isoformat() if value == value else None
    if type(value).__module__ == "numpy":
        return _numpy(value, field, depth)
    raise BadRow(f"{field} is a {type(value).__name__}, which JSON cannot hold")


def _numpy(value: object, field: str, depth: int) -> object:
    if type(value).__name__ in ("datetime64", "timedelta64"):
        return None if str(value) == "NaT" else str(value)
    return plain(value.tolist(), field, depth + 1)  # type: ignore[attr-defined]


def _duration(days: int, seconds: int, nanoseconds: int, months: int = 0) -> str:
    """An interval in ISO 8601: "P1M2DT3.5S"."""
    exact = Decimal(seconds) + Decimal(nanoseconds).scaleb(-9)
    text = f"{exact:f}".rstrip("0").rstrip(".") if exact % 1 else f"{exact:.0f}"
    return f"P{f'{months}M' if months else ''}{days}DT{text}S"


def _strict(value: object, field: str) -> object:
    if isinstance(value, dict):
        return {key: _strict(item, field) for key, item in value.items()}
    if isinstance(value, list):
        return [_strict(item, field) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise BadRow(f"{field} holds a number of more than 4,000 digits")
    return value
