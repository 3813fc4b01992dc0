"""The sample browser's script and style: plain files of `front/`, put into the page as they are, not built."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

PURE = ("text.js", "query.js", "select.js", "diff.js")
"""Those that touch no page when they are loaded; each may use the names of those before it."""
SCRIPTS = (*PURE, "source.js", "toolbar.js", "list.js", "answer.js", "view.js", "dialogs.js", "keys.js", "app.js")
STYLES = ("browser.css", "answers.css")


@dataclass(frozen=True, slots=True)
class FrontEnd:
    """What a page needs to show answers."""

    script: str
    """Text of one `<script>`."""
    style: str


@cache
def front_end() -> FrontEnd:
    """The browser's script, which leaves no name behind in the page, and its style."""
    return FrontEnd(f'(() => {{\n"use strict";\n{joined(SCRIPTS)}}})();\n', joined(STYLES))


def joined(names: tuple[str, ...]) -> str:
    """Files of `front/`, one after another."""
    folder = files("rayalign.dashboard") / "front"
    return "\n".join((folder / name).read_text("utf-8") for name in names)
