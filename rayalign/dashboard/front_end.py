"""The page's own scripts and styles, from `front/`: parts in the order of their names, each in one piece."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class FrontEnd:
    """What is put into the page: one script and one style sheet, empty where there is none."""

    script: str
    style: str


@cache
def front_end() -> FrontEnd:
    """All of `front/*.js` and of `front/*.css`."""
    return FrontEnd(_joined(".js"), _joined(".css"))


def _joined(ending: str) -> str:
    found = sorted((one for one in files("rayalign.dashboard").joinpath("front").iterdir()), key=lambda one: one.name)
    return "\n".join(one.read_text("utf-8") for one in found if one.name.endswith(ending))
