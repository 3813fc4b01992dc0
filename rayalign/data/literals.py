"""Lists that stand in a row as text: in JSON, or as Python prints them (pandas writes lists so to CSV). Pure."""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
import warnings
from collections.abc import Mapping

from rayalign.data.dataset import BadRow

MAX_LITERAL = 1 << 20
"""Characters of a Python literal that is read; parsing it takes some hundred times as much memory."""
_BEGINS = re.compile(r"\s*(?:[\"\[({]|[A-Za-z_][\w.]*\()")
"""How any of the texts below begins."""
_LIST = re.compile(r"\s*(?:array\()?\s*[\[(]\s*")
_TURNS = re.compile(r"\s*(?:array\()?\s*[\[(]\s*(?:array\()?\s*\{\s*['\"](?:role|content|from|value)['\"]\s*:")
_OBJECTS = re.compile(r"\s*[\[(]?\s*\{\s*['\"]")
_TEXTS = re.compile(r"\s*\[\s*['\"]\s*\{\s*\\?['\"]")
_QUOTED = re.compile(r"\s*\"\s*(?:\\\\*\"\s*)*[\[{(]")
_WHO = "(?:system|developer|user|human|assistant|gpt|tool)"
_KEYLESS = re.compile(
    rf"\s*\[?\s*\{{\s*(?:\"{_WHO}\"\s*,|(?:role|content|from|value)=|\"(?:[^\"]|\"(?!\}}))*\",\s*\"{_WHO}\"\s*\}})"
    rf"|\s*\[\s*\{{\s*{_WHO}\s*,",
    re.IGNORECASE,
)
"""Turns as Polars, Spark and Presto print them: without keys or quotes, so that their texts cannot be told apart."""
_OBJECT = re.compile(r"\s*[\[(]?\s*(?!array\()[A-Za-z_][\w.]*\(")
"""How a turn begins that Python prints as an object of some class: OrderedDict([('role', 'user'), ...])."""
KEYS = (("role", "content"), ("from", "value"))
"""What each turn of a conversation has, in either of the two usual forms."""


def is_turn(value: object) -> bool:
    return isinstance(value, dict) and (
        ("role" in value and "content" in value) or ("from" in value and "value" in value)
    )


def turns_in(value: object, name: str) -> object:
    """A text that is a list of turns or one turn, or a list of such texts, as these; anything else as it is.

    Raises:
        BadRow: a text that begins as a list of turns, and cannot be read as one.
    """
    if not isinstance(value, str):
        return by_rows(value, name) if is_turn(value) else _turns_of_texts(value, name)
    if not _BEGINS.match(value):
        return value
    if (inner := _unquoted(value)) is not None:
        turns = turns_in(inner, name)
        return value if isinstance(turns, str) else turns
    if _TEXTS.match(value):
        return _turns_of_list(value, name)
    if value.rstrip().endswith(("]", "}", "…")) and _KEYLESS.match(value):
        raise _unreadable(name)
    if (
        _OBJECT.match(value)
        and value.rstrip().endswith((")", "]"))
        and any(_is_given(value, who) and _is_given(value, what) for who, what in KEYS)
    ):
        raise _unreadable(name)
    if not (_OBJECTS.match(value) or _TURNS.match(value)):
        return value
    if not any(_has_key(value, who) and _has_key(value, what) for who, what in KEYS):
        return value
    try:
        found = _parsed(value, name)
    except BadRow:
        # Prose may begin with an object; what begins with a turn, or ends as the list that it begins as, is none.
        if _TURNS.match(value) or (_LIST.match(value) and value.rstrip().endswith(("]", ")"))):
            raise
        return value
    items = list(found) if isinstance(found, list | tuple) else [found]
    if all(map(is_turn, items)):
        return by_rows(found, name) if isinstance(found, Mapping) else items
    if any(map(is_turn, items)):
        raise _unreadable(name)
    return value


def _turns_of_list(text: str, name: str) -> object:
    """The turns of a text that is a list of such texts; any other text as it is."""
    try:
        found = _turns_of_texts(_parsed(text, name), name)
    except BadRow:
        return text
    return found if isinstance(found, list) and all(map(is_turn, found)) else text


def _turns_of_texts(value: object, name: str) -> object:
    if not isinstance(value, list) or not value or not isinstance(value[0], str) or not _OBJECTS.match(value[0]):
        return value
    turns = [turns_in(item, name) for item in value]
    return turns if all(map(is_turn, turns)) else value


def list_in(value: object, name: str) -> object:
    """The same of a field that holds lists: a text that begins as any list is one.

    Raises:
        BadRow: it cannot be read.
    """
    if not isinstance(value, str):
        return value
    if (inner := _unquoted(value)) is not None:
        found = list_in(inner, name)
        return value if isinstance(found, str) else found
    if not _LIST.match(value):
        return value
    found = _parsed(value, name)
    return list(found) if isinstance(found, tuple) else found


def by_rows(value: object, name: str) -> object:
    """The list of objects that stands in a row as an object of lists: the `datasets` library keeps lists so.

    {"from": ["human", "gpt"], "value": ["Hi", "Hello"]}

    Raises:
        BadRow: the lists differ in length.
    """
    columns = {key: cell for key, cell in value.items() if cell is not None} if isinstance(value, Mapping) else {}
    if not columns or not all(isinstance(cell, list) for cell in columns.values()):
        return value
    if len({len(cell) for cell in columns.values()}) > 1:
        raise BadRow(f"{name} has lists of different lengths")
    return [dict(zip(columns, line, strict=True)) for line in zip(*columns.values(), strict=True)]


def _unquoted(text: str) -> str | None:
    """The text that stands in a text as JSON: what was encoded twice."""
    if not _QUOTED.match(text) or not text.rstrip().endswith('"'):
        return None
    try:
        inner = json.loads(text, strict=False)
    except ValueError:
        return None
    return inner if isinstance(inner, str) else None


def _has_key(text: str, key: str) -> bool:
    return re.search(rf"['\"]{key}['\"]\s*:", text) is not None


def _is_given(text: str, name: str) -> bool:
    """Whether a text has ('role', ...), role=... or {'role': ...}."""
    return _has_key(text, name) or re.search(rf"\(\s*['\"]{name}['\"]\s*,|[(\s]{name}=", text) is not None


def _parsed(text: str, name: str) -> object:
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        pass
    if len(text) > MAX_LITERAL or _adjoining(text):
        raise _unreadable(name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.literal_eval(text.strip())
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        raise _unreadable(name) from None


def _adjoining(text: str) -> bool:
    """Whether two texts stand side by side: numpy prints lists without commas, and Python would join the texts."""
    last = None
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.STRING and last == tokenize.STRING:
                return True
            last = last if token.type in (tokenize.NL, tokenize.NEWLINE) else token.type
    except (tokenize.TokenError, SyntaxError):
        return True
    return False


def _unreadable(name: str) -> BadRow:
    return BadRow(
        f"{name} is the text of a list that cannot be read",
        why="it is neither JSON nor a Python list of dicts: numpy prints no commas, Polars and Spark no keys",
        remedy="write the rows as JSONL or Parquet",
    )
