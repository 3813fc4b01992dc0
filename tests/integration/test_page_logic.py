"""The page's own filters, orders, addresses and diffs, run in Chromium without a page around them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rayalign.dashboard.front_end import PURE, joined
from tests.chromium import chromium
from tests.unit.answer_query_cases import CASES, ROWS, Case, Params, views

Run = Callable[[str, Any], Any]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Calls a JavaScript function that may use the names of the pure files."""
    with chromium() as browser:
        page = browser.new_page()
        files = joined(PURE)
        yield lambda function, argument: page.evaluate(
            f"(argument) => {{{files}\nreturn ({function})(argument);}}", argument
        )


def listed(run: Run, params: Params) -> dict[str, Any]:
    pairs = [[key, one] for key, value in params.items() for one in ([value] if isinstance(value, str) else value)]
    facets = {"purposes": ["evaluation"], "rounds": {"evaluation": [0, 1]}}
    select = """({ pairs, facets, views }) => {
      const query = toQuery(parseHash(`#${new URLSearchParams(pairs)}`), facets);
      return selectPage(query.purpose === "evaluation" ? views : [], query);
    }"""
    return run(select, {"pairs": pairs, "facets": facets, "views": views()})


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_query_lists_what_the_table_says(run: Run, case: Case) -> None:
    page = listed(run, case.params)
    assert [row["id"] for row in page["rows"]] == case.ids
    assert page["total"] == (len(case.ids) if case.total is None else case.total)


def test_rows_say_what_the_table_says(run: Run) -> None:
    rows = listed(run, {"round": "1"})["rows"]
    assert {row.pop("id"): row for row in rows} == ROWS


@pytest.mark.parametrize(
    ("first", "second", "parts"),
    [
        ("a b c", "a b c", [["same", "a b c"]]),
        ("", "new", [["new", "new"]]),
        ("gone", "", [["gone", "gone"]]),
        ("", "", []),
        ("a red boat", "a blue boat", [["same", "a "], ["gone", "red"], ["new", "blue"], ["same", " boat"]]),
        ("one two. End", "six ten. End", [["gone", "one two"], ["new", "six ten"], ["same", ". End"]]),
        ("我喜欢茶", "我喜欢水", [["same", "我喜欢"], ["gone", "茶"], ["new", "水"]]),
        ("a 👍 b", "a 👎 b", [["same", "a "], ["gone", "👍"], ["new", "👎"], ["same", " b"]]),
    ],
)
def test_diff(run: Run, first: str, second: str, parts: list[list[str]]) -> None:
    found = run("([first, second]) => wordDiff(first, second)", [first, second])
    assert found == {"parts": parts, "cut": None}


@pytest.mark.parametrize(
    ("first", "second", "cut"),
    [
        ("x" * 1_000_000, "y" * 1_000_000, "Compared: the first 60,000 characters of each text."),
        (
            "a b " * 20_000,
            "c d " * 20_000,
            "Compared: the first 60,000 characters of each text, of these the first 2,000",
        ),
        ("a b " * 2_000, "c d " * 2_000, "Compared: the first 2,000 words where they differ."),
    ],
)
def test_a_diff_of_long_texts_ends_and_says_that_it_is_cut(run: Run, first: str, second: str, cut: str) -> None:
    found = run("([first, second]) => wordDiff(first, second)", [first, second])
    assert found["cut"].startswith(cut)
    sides = {kind: "".join(text for one, text in found["parts"] if one in ("same", kind)) for kind in ("gone", "new")}
    assert sides == {"gone": first[:60_000], "new": second[:60_000]}


def test_an_address_is_read_and_written_back(run: Run) -> None:
    address = (
        "#run=a+b&purpose=train&round=5&baseline=0&sort=gain&q=a%26b&scorer=rule%3A1&min=-0.5&max=1e3&status=error"
    )
    address += "&meta=topic%3Da%3Db&meta=level%3D1&page=2&prompt=db48538d1e904760&answer=2&rounds=0.5&diff=0.1~5.1"
    address += "&inline=1&shade=ratios"
    state = run("(address) => parseHash(address)", address)
    assert (state["min"], state["max"], state["meta"], state["rounds"]) == (
        -0.5,
        1000,
        ["topic=a=b", "level=1"],
        [0, 5],
    )
    again = run("(address) => toHash(parseHash(address))", address)
    assert run("(address) => parseHash(address)", again) == state


@pytest.mark.parametrize(
    "address",
    [
        "#round=-1&baseline=1e9&page=x&min=Infinity&max=NaN&answer=1.5&size=-3&shade=<b>&diff=1~2&inline=yes",
        "#__proto__=1&constructor=2&sort=constructor&status=toString&meta=x&rounds=",
        "#%E0%A4%A=%&&==&=",
        "#",
    ],
)
def test_a_hostile_address_asks_for_nothing(run: Run, address: str) -> None:
    state = run("(address) => parseHash(address)", address)
    assert {key: value for key, value in state.items() if value not in (None, [])} == {}


def test_what_cannot_be_shown_is_marked(run: Run) -> None:
    text = run("() => shown('a\\u0000b\\ud800c\\u001b\\u0085 \\n\\t😀')", None)
    assert text == "a�b�c�� \n\t😀"
