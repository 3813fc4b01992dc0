"""Report files read back without trust: what is not a number is missing, what HTML cannot hold is replaced."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rayalign.store.files import json_value

NOT_TEXT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
CUT = re.compile(r" … \((\d{1,12}) more characters\)\Z")
LARGEST = 1e100
"""Beyond this a number says nothing to a reader, and differences of such numbers overflow."""
LONGEST_TEXT = 4000
"""Characters of one text that the page shows."""


Report = Mapping[str, object]
"""What a file says, of which nothing is taken for granted: every value is looked at before it is used."""
Rounds = Sequence[tuple[int, Report]]
"""Round and report, in order of the rounds."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A metric's value and, if it has one, its 95 % interval."""

    value: float
    ci95: tuple[float, float] | None = None


def number(value: object) -> float | None:
    """`value` if it is a finite number of a sane size, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < LARGEST else None


def reading(metric: object) -> Reading | None:
    """The content of one `{"value", "n", "ci95"}`; None where the value is missing."""
    if not isinstance(metric, dict):
        return None
    value, bounds = number(metric.get("value")), metric.get("ci95")
    if value is None:
        return None
    if not isinstance(bounds, list | tuple) or len(bounds) != 2:
        return Reading(value)
    low, high = number(bounds[0]), number(bounds[1])
    return Reading(value) if low is None or high is None else Reading(value, (min(low, high), max(low, high)))


def section(value: object) -> dict[str, object]:
    """`value` if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: object) -> list[object]:
    """`value` if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def clean_report(data: Report, longest: int | None = LONGEST_TEXT) -> Report:
    """The file as JSON that HTML can hold, with texts of at most `longest` characters."""
    return section(clean(dict(data), longest))


def clean_text(text: str, longest: int | None = LONGEST_TEXT) -> str:
    """A text fit for HTML: control codes as their pictures, lone surrogates as U+FFFD; cut where it is longer."""
    shown = cut(text, longest)
    return shown if shown.isprintable() and shown.isascii() else NOT_TEXT.sub(_picture, shown.replace("\r\n", "\n"))


def cut(text: str, longest: int | None = LONGEST_TEXT) -> str:
    """The text, or as much of it as may be shown, and how much is left out, also by an earlier cut.

    >>> cut("abcdef", 4), cut(cut("abcdef" * 20, 100), 4)
    ('abcd … (2 more characters)', 'abcd … (116 more characters)')
    """
    if longest is None or len(text) <= longest:
        return text
    before = CUT.search(text)
    more = len(text) - longest if before is None else before.start() - longest + int(before[1])
    return f"{text[:longest]} … ({more} more characters)"


def clean(value: object, longest: int | None = LONGEST_TEXT) -> object:
    """A value as JSON, with every text in it as `clean_text` makes it."""
    if isinstance(value, str):
        return clean_text(value, longest)
    if isinstance(value, dict):
        return {clean_text(str(key), longest): clean(item, longest) for key, item in value.items()}
    return [clean(item, longest) for item in value] if isinstance(value, list | tuple) else json_value(value)


def _picture(match: re.Match[str]) -> str:
    code = ord(match.group())
    return chr(0x2400 + code) if code < 0x20 else "\u2421" if code == 0x7F else "\ufffd"
