"""The last number of a text, with its sign; none where it is a part of something else, such as a range or a root. Pure.

"It is -5." ─► "-5"      "pages 3–5", "the answer — 5", "2\\sqrt{5}", "5x" ─► none      "5 apples" ─► "5"
"""

# ruff: noqa: RUF001, RUF002 - dashes that look like others are what this file is about

from __future__ import annotations

import re

from rayalign.scoring.answer_text import DASHES, ascii_text
from rayalign.scoring.number_context import is_label, is_unit_power, stands_alone

_FRACTION = r"\\[dtc]?frac\s*(?:\{[^{}]*\}\s*\{[^{}]*\}|\d\s*\d)"
_GROUPS = r"[1-9]\d{0,2}(?:(?:\\[,!]|\{,\}|,\\!|[\u00a0\u2009\u202f])\d{3})+(?:\.\d+)?"
_DIGITS = rf"(?:{_GROUPS}|\d+(?:,\d+)*(?:\.\d+)?|\.\d+)"
_POWER = r"(?:[eE][+-]?\d+(?!\w)|\s?(?:\\times|\\cdot|[x×*·])\s?10\s?\^\s?(?:\{[+-]?\d+\}|[+-]?\d+))"
_NUMBER = re.compile(
    rf"(?:(?:\d+\s?)?{_FRACTION}|(?:\d+\s)?\d+/\d+(?![/\d])|{_DIGITS}(?:{_POWER}|\s?/\s?\d+(?:\.\d+)?)?)(?:\s?\\?%)?"
)
_SIGN = re.compile(rf"([{re.escape(DASHES)}])(\s*)$")
_CURRENCY = re.compile(r"\\?[$€£¥₹]\s?$")
_NAMED = re.compile(r"(?:[A-Za-z]|(?<=[A-Za-z0-9})])_|_\{)\Z")
_CURRENCY_WORD = re.compile(r"(?:USD|EUR|GBP|INR|US|Rs\.?)$")
_OPENS = "=:([{,<>≈*$|"
_AROUND = 60
"""Characters before and after a number that are looked at."""


_CLOCK = re.compile(r" ?[ap]\.?m\b\.?", re.IGNORECASE)
_ENDS_MATH = re.compile(r"(?:[ A-Za-z%^{}]|\\[,; ]|\\[a-z]+)*\$(?!\d)")


def last_number(text: str) -> str | None:
    """The last number or fraction in the text; None where there is none, or where it cannot be told whether it is one
    of its own, or negative."""
    return last_measure(text)[0]


def last_measure(text: str) -> tuple[str | None, str]:
    """The last number of a text, and what follows it."""
    text = ascii_text(_without_thin_spaces(text), dashes=False)
    found = next((match for match in reversed(list(_NUMBER.finditer(text))) if not _is_named(text, match)), None)
    if found is None:
        return None, ""
    before = text[max(0, found.start() - _AROUND) : found.start()]
    after = text[found.end() : found.end() + _AROUND]
    currency = _CURRENCY.search(before)
    bare = before[: currency.start()] if currency else before
    if not stands_alone(bare, after) or _split(before, found.group()):
        return None, ""
    if is_label(found.group(), text[: found.start()], after):
        return None, ""
    sign = _sign(bare, at_start=found.start() < _AROUND)
    if sign is None:
        return None, ""
    if clock := _CLOCK.match(after):
        return f"{sign}{found.group()}{clock.group()}", ""
    symbol = currency.group().strip("\\ ") if currency else ""
    math = symbol == "$" and not (currency and currency.group()[0] == "\\") and _ENDS_MATH.match(after)
    return f"{sign}{'' if math else symbol}{found.group()}", after


def _is_named(text: str, match: re.Match[str]) -> bool:
    """Whether it belongs to a name, as in x1 and x_1, or to a unit, as in cm^2; a currency is no name."""
    before = text[max(0, match.start() - _AROUND) : match.start()]
    if is_unit_power(match.group(), before):
        return True
    return bool(_NAMED.search(before)) and not _CURRENCY_WORD.search(before)


def _without_thin_spaces(text: str) -> str:
    """Thousands that are set apart by a space that breaks no line, with a comma."""
    return text if text.isascii() else re.sub(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3}(?!\d))", r"\,", text)


def _split(before: str, number: str) -> bool:
    """Whether it may be the end of a number whose thousands are set apart by spaces: 12 500."""
    return re.match(r"\d{3}(?!\d)", number) is not None and re.search(r"(?<![\d.,])\d{1,3} $", before) is not None


def _sign(before: str, *, at_start: bool) -> str | None:
    """`-`, or nothing; None where a dash is there that may be a minus as well as a mark between words or numbers."""
    found = _SIGN.search(before)
    if found is None:
        return ""
    (dash, gap), lead = found.groups(), before[: found.start()]
    if dash in "—―" or (lead[-1:] and lead[-1:] in DASHES):
        return None
    solid = lead.rstrip()[-1:]
    if solid.isdigit() or solid in tuple(")]}"):
        return None
    if not gap:
        return None if lead[-1:].isalpha() else "-"
    if solid and solid in _OPENS:
        return "-"
    return "-" if dash == "−" and not solid and at_start else None
