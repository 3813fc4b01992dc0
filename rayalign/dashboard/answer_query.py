"""What the sample browser is asked: which answers, filtered and sorted how, and which page of them.

The meaning of every parameter stands in the table that the tests of both front ends go through
(`tests/unit/answer_query_cases.py`) and in docs/serve.md.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from rayalign.errors import DataError
from rayalign.records import ScoreStatus

Sort = Literal["regression", "gain", "disagreement", "spread", "length", "reward", "prompt"]
PAGE, LARGEST_PAGE = 50, 200
"""Rows of a page if not told otherwise, and at most."""
LONGEST = 1000
"""Characters of a text that is searched for."""
MOST_META = 20
LAST_ROUND = 9999
SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Query:
    """A question to an `AnswerStore`; null is what was not asked."""

    purpose: str | None = None
    round: int | None = None
    baseline: int | None = None
    sort: Sort = "regression"
    q: str | None = None
    scorer: str | None = None
    min: float | None = None
    max: float | None = None
    status: ScoreStatus | None = None
    meta: tuple[tuple[str, str], ...] = ()
    """Pairs of key and value that all have to hold."""
    page: int = 0
    size: int = PAGE

    @classmethod
    def of(cls, parameters: Mapping[str, Sequence[str]]) -> Query:
        """The query of a URL's parameters, each with all its values; names that are not known are left out.

        Raises:
            DataError: a value that cannot be meant, or several where one can.
        """
        twice = next((name for name, values in parameters.items() if name != "meta" and len(values) > 1), None)
        if twice is not None:
            raise DataError(
                f"{plain(twice)[:40]} is given {len(parameters[twice])} times", "one is looked at", "give one"
            )
        first = {name: plain(values[0]) for name, values in parameters.items() if values and values[0] != ""}
        asked = first.get("q")
        if asked is not None and len(asked) > LONGEST:
            raise DataError(f"q has {len(asked)} characters", f"at most {LONGEST} are searched for", "shorten it")
        return cls(
            purpose=first.get("purpose"),
            round=_whole(first, "round", LAST_ROUND),
            baseline=_whole(first, "baseline", LAST_ROUND),
            sort=_one_of(first.get("sort"), "sort", get_args(Sort)) or "regression",
            q=asked,
            scorer=first.get("scorer"),
            min=_finite(first, "min"),
            max=_finite(first, "max"),
            status=_one_of(first.get("status"), "status", get_args(ScoreStatus)),
            meta=_pairs([plain(value) for value in parameters.get("meta", ()) if value]),
            page=_whole(first, "page", 10**9) or 0,
            size=min(max(1, _whole(first, "size", 10**9) or PAGE), LARGEST_PAGE),
        )


def plain(text: str) -> str:
    """A text that UTF-8 can hold: lone surrogates become U+FFFD."""
    return SURROGATE.sub("\ufffd", text)


def _whole(values: Mapping[str, str], name: str, largest: int) -> int | None:
    value = values.get(name)
    if value is None:
        return None
    if value.isascii() and value.isdigit() and len(value) <= len(str(largest)):
        return int(value)
    raise DataError(f"{name}={value[:40]!r}", "it is no whole number from 0 on", "give one")


def _finite(values: Mapping[str, str], name: str) -> float | None:
    value = values.get(name)
    try:
        number = None if value is None else float(value)
    except ValueError:
        number = math.nan
    if number is not None and not math.isfinite(number):
        raise DataError(f"{name}={str(value)[:40]!r}", "it is no number", "give one, such as 0.5")
    return number


def _one_of(value: str | None, name: str, known: tuple[str, ...]) -> Any:
    """`value`, which is one of the known ones, or null."""
    if value is not None and value not in known:
        raise DataError(f"{name}={value[:40]!r}", "there is no such one", f"use one of {', '.join(known)}")
    return value


def _pairs(values: Sequence[str]) -> tuple[tuple[str, str], ...]:
    if len(values) > MOST_META:
        raise DataError(f"meta is given {len(values)} times", f"at most {MOST_META} are looked at", "give fewer")
    if wrong := next((value for value in values if "=" not in value), None):
        raise DataError(f"meta={wrong[:40]!r}", "it has no '='", "write meta=key=value")
    return tuple((key, text) for key, _, text in (value.partition("=") for value in values))
