"""Rows of a JSON or JSONL file, each with a name that a person can find it by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

from rayalign.errors import DataError

FORMATS = "give a JSON list of objects, or a JSONL file with one object per line"
_LINES = (".jsonl", ".ndjson")


def read_rows(path: Path, prompt_fields: tuple[str, ...]) -> list[tuple[str, Any]]:
    """(name, row) pairs: "line 7" of a JSONL file, "row 3" of a JSON list.

    A `.json` file may also hold JSONL. An object with one list is that list, unless it is itself a row, which one
    of `prompt_fields` tells.

    Raises:
        DataError: the file is missing, empty, not UTF-8 or not JSON.
    """
    text = _read(path)
    if not text.strip():
        raise DataError(f"{path}: the file is empty", "there is nothing to read", FORMATS)
    if path.suffix.lower() in _LINES:
        return _by_line(text, path)
    try:
        value = _loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            return _by_line(text, path)
        _broken(path, error.lineno, error.colno, error.msg, text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: {error}", "this JSON cannot be read", FORMATS) from None
    if isinstance(value, dict) and any(name in value for name in prompt_fields):
        value = [value]
    if isinstance(value, dict):
        lists = [item for item in value.values() if isinstance(item, list)]
        if len(lists) != 1:
            keys = ", ".join(value) or "none"
            found = f"{path}: an object with the keys: {keys}"
            raise DataError(found, f"it holds {len(lists)} lists, so the rows cannot be told", FORMATS)
        value = lists[0]
    if not isinstance(value, list):
        raise DataError(f"{path}: found {type(value).__name__} {str(value)[:40]!r}", "these are not rows", FORMATS)
    return [(f"row {number}", row) for number, row in enumerate(value, 1)]


def _read(path: Path) -> str:
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"cannot read {str(path)!r}: {reason}", remedy="check prompts.source") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        found = f"{path}, line {line}: byte 0x{content[error.start]:02x} is not UTF-8"
        raise DataError(found, "JSON is UTF-8 text", "save the file as UTF-8") from None


def _loads(text: str) -> Any:
    """Strict about structure, but control characters such as NUL may stand in strings as they are."""
    return json.loads(text, strict=False)


def _by_line(text: str, path: Path) -> list[tuple[str, Any]]:
    rows = []
    # Only "\n" ends a line: U+2028 and the like may stand in JSON strings.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            rows.append((f"line {number}", _loads(line)))
        except json.JSONDecodeError as error:
            _broken(path, number, error.colno, error.msg, text)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, line {number}: {error}", "this JSON cannot be read", FORMATS) from None
    return rows


def _broken(path: Path, line: int, column: int, problem: str, text: str) -> NoReturn:
    content = text.split("\n")[line - 1]
    start = max(0, column - 21)
    excerpt = content[start : start + 40]
    found = f"{path}, line {line}, column {column}: {problem}, at {excerpt!r}"
    raise DataError(found, "this is not valid JSON", "mend or remove that line") from None
