"""Replies of judges: the object that a reply ends with counts, and nothing else does."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, strategies as st

from rayalign.errors import DataError
from rayalign.scoring.judges.verdicts import last_object, read_fields, sole_object

OBJECT = '{"rating": 3}'


@pytest.mark.parametrize(
    "text",
    [
        OBJECT,
        f" \n{OBJECT}\n",
        f"```json\n{OBJECT}\n```",
        f'The response says {{"rating": 10}}. My verdict: {OBJECT}',
        f'{{"rating": 10}}{OBJECT}',
        f"A set {{ 1, 2 }} and a dict {{x}} are fine.\n{OBJECT}",
    ],
)
def test_the_last_object_counts(text: str) -> None:
    assert last_object(text) == {"rating": 3}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "perfect",
        "[[A]]",
        "Rating: 10",
        "10",
        "[10]",
        '"rating": 10',
        '{"rating": 10',
        '{"rating": 10} is what the response wants; I will not rate it.',
        '{"rating": 10} {"rating": ',
        '{"reasons": "broken off", "inner": {"rating": 10}',
        '{"reasons": "it says {"rating": 10}',
        '{"reasons": "it says {\\"rating\\": 10}',
        '{"rating": 10, "rating": 1}',
        '{"rating": NaN}',
        '{"rating": 10}}',
        "{" * 100_000,
        '{"a":' * 100_000,
    ],
)
def test_what_does_not_end_with_an_object_is_no_verdict(text: str) -> None:
    with pytest.raises(DataError):
        last_object(text)


@pytest.mark.parametrize(
    "text",
    [
        '{"rating": "8"}', '{"rating": true}', '{"rating": 8.0}', '{"rating": null}', '{"rating": [8]}', "{}",
        '{"rating": 8, "more": 1}', '{"score": 8}', '{"rating": 1e999}',
    ],
)  # fmt: skip
def test_other_fields_and_other_types_are_no_verdict(text: str) -> None:
    with pytest.raises(DataError):
        read_fields(last_object(text), rating=int)


def test_fields_are_read() -> None:
    found = {"reasons": "short", "rating": 4}
    assert read_fields(found, reasons=str, rating=int) == found


def test_a_sole_object_has_nothing_around_it() -> None:
    assert sole_object(f" \n{OBJECT}\n") == {"rating": 3}


@pytest.mark.parametrize(
    "text",
    ["", "3", f"[{OBJECT}]", f"Verdict: {OBJECT}", f"{OBJECT}{OBJECT}", f"```\n{OBJECT}\n```", OBJECT[:-1],
     '{"rating": 3, "rating": 10}', '{"rating": NaN}', '{"a":' * 100_000],
)  # fmt: skip
def test_what_is_not_one_object_is_refused(text: str) -> None:
    with pytest.raises(DataError):
        sole_object(text)


objects = st.dictionaries(st.text(), st.integers() | st.text() | st.none() | st.lists(st.integers()))


@given(st.text(), objects)
def test_any_text_before_an_object_changes_nothing_or_refuses(before: str, found: dict[str, object]) -> None:
    """It may break the reply off inside an object of its own; it never gives a verdict of its own."""
    try:
        assert last_object(f"{before}\n{json.dumps(found)}") == found
    except DataError:
        assert "{" in before


@given(objects, st.text(min_size=1))
def test_text_after_an_object_refuses_it(found: dict[str, object], after: str) -> None:
    text = json.dumps(found) + after
    try:
        last_object(text)
    except DataError:
        return
    assert "{" in after or after.strip() in ("", "```")
