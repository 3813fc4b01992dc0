"""Parts of a conversation that a row holds one level down, under `metadata` and the like. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping

from rayalign.data.dataset import BadRow
from rayalign.data.names import named, part_of, squashed
from rayalign.data.plain import plain
from rayalign.data.turns import is_blank
from rayalign.records import JsonObject


def lifted(row: JsonObject) -> JsonObject:
    """The row with the system turn, history and tools that an object in it holds as fields of its own.

    Raises:
        BadRow: they are not those that the row has already.
    """
    for holder in named(row, "holder"):
        held = _object(row[holder], holder)
        parts = {name: value for name, value in held.items() if _is_part(name, value)}
        if not parts:
            continue
        row = {**row, holder: {name: value for name, value in held.items() if name not in parts}}
        for name, value in parts.items():
            if not is_blank(row.get(name)) and row[name] != value:
                raise BadRow(f"{name} of {holder} is not the {name} that the row has already")
            row[name] = value
    return row


def _object(value: object, name: str) -> Mapping[str, object]:
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = plain(json.loads(value, strict=False), name)
        except (ValueError, RecursionError):
            return {}
    return value if isinstance(value, Mapping) else {}


def _is_part(name: str, value: object) -> bool:
    """Whether this is a part of the conversation: a system of one word is the name of something."""
    part = part_of(name)
    if part is None or is_blank(value) or isinstance(value, bool | int | float):
        return False
    one_word = isinstance(value, str) and len(value.split()) == 1
    return part in ("history", "tools") or (part == "system" and not (one_word and squashed(name) == "system"))
