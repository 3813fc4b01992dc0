"""The files of the sample browser: all of them in the page, small, and none that makes markup or code of a text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rayalign.dashboard.front_end import SCRIPTS, STYLES, front_end
from rayalign.dashboard.shell import script_text

FOLDER = Path(__file__).parents[2] / "rayalign/dashboard/front"
FILES = sorted(FOLDER.iterdir())
MAX_FILE_LINES = 300
MAKES_MARKUP = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|DOMParser|srcdoc"
)


def test_every_file_is_in_the_page_once() -> None:
    assert sorted([*SCRIPTS, *STYLES]) == [one.name for one in FILES]
    front = front_end()
    for one in FILES:
        assert (front.script + front.style).count(one.read_text()) == 1
    assert script_text(front.script)


@pytest.mark.parametrize("path", FILES, ids=lambda one: one.name)
def test_a_file_is_short_and_makes_no_markup_of_text(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= MAX_FILE_LINES
    assert not MAKES_MARKUP.search(text)
    assert "http:" not in text and "https:" not in text and "url(" not in text and "@import" not in text
