"""Rows of a text file: one prompt a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import BinaryIO

from rayalign.data.dataset import BadRow
from rayalign.errors import DataError


def text_rows(stream: BinaryIO, path: str) -> Iterator[tuple[str, object]]:
    """(place, row) pairs: "line 7". Blank lines are no prompts; one that is not UTF-8 is a `BadRow`.

    Raises:
        DataError: there is no prompt, or the first one is an object in JSON.
    """
    empty = True
    for number, line in enumerate(stream, 1):
        line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        if not line.strip():
            continue
        if empty and _is_json(line):
            raise DataError(
                f"{path}: its lines are JSON", "a .txt file has one prompt a line", "let its name end with .jsonl"
            )
        empty = False
        try:
            row = {"prompt": line.decode().strip("\r\n")}
        except UnicodeDecodeError:
            row = BadRow("not UTF-8")
        yield f"line {number}", row
    if empty:
        raise DataError(f"{path}: the file is empty", "there is nothing to read", "write one prompt a line")


def _is_json(line: bytes) -> bool:
    """Whether a line is an object in JSON, or a list of such."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return line.strip() == b"["
    return isinstance(value, dict) or (isinstance(value, list) and any(isinstance(item, dict) for item in value))
