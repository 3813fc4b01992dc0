"""Files and names that the docs point to are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
PATH = re.compile(r"(?<![\w/])((?:rayalign|tests|configs|benchmarks|examples|cluster)/[\w./-]*\w)")
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")


def text_of(page: Path) -> str:
    """The log names files as they were called then."""
    return "" if page.name == "log.md" else page.read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_are_there(page: Path) -> None:
    assert [path for path in PATH.findall(text_of(page)) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_are_there(page: Path) -> None:
    assert [link for link in LINK.findall(text_of(page)) if not (page.parent / link).exists()] == []


def test_paths_and_links_are_found() -> None:
    text = "see `rayalign/losses/` and [it](docs/a.md#b), not [that](https://x.y/rayalign/none.py)"
    assert PATH.findall(text)[:1] == ["rayalign/losses"]
    assert LINK.findall(text) == ["docs/a.md"]
