"""Vega, Vega-Lite and Vega-Embed as one script for the page, and charts as SVG without a browser."""

from __future__ import annotations

import atexit
import json
import re
import subprocess
import sys
import threading
from contextlib import suppress
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from markupsafe import Markup

from rayalign.dashboard.charts import UNDER_POINTER
from rayalign.errors import ActorFailedError, ModelError
from rayalign.records import JsonObject
from rayalign.store.cache import cache_folder, made_once

WIDTH, HEIGHT = 400, 200
"""Of a drawing without scripts; it keeps its height and is as wide as its place allows."""
MOST_KEPT = 256
CONFIG: JsonObject = {
    "aria": False,  # each chart has one alternative text, in the page
    "background": None,
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--soft)",
        "titleColor": "var(--soft)",
        "gridColor": "var(--grid)",
        "domain": False,
        "ticks": False,
        "labelPadding": 6,
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
    },
    "axisY": {"tickCount": 5},
    "axisX": {"grid": False, "domain": True, "domainColor": "var(--line)", "titlePadding": 4},
}
_DIGITS = re.compile(r"(\d+\.\d\d)\d+")


@cache
def bundle() -> str:
    """The script that defines `vegaEmbed`. Made once per version, for that takes seconds."""
    try:
        folder = cache_folder() / f"vega-{version('vl-convert-python')}"
        return (made_once(folder, _make) / "vega.js").read_text("utf-8")
    except (ModelError, OSError):
        return _bundled()  # a page is written where no cache can be, too


def _make(scratch: Path) -> None:
    (scratch / "model").mkdir()
    (scratch / "model" / "vega.js").write_text(_bundled(), "utf-8")


def _bundled() -> str:
    # A function of its own: the bundle's names are short ones that other scripts may have too.
    return f"(function(){{{_drawn(None)}\n}})();"


def sized(spec: JsonObject) -> JsonObject:
    """A chart's specification for the page: as wide as its place."""
    return {"width": "container", "height": HEIGHT, "autosize": {"type": "fit", "contains": "padding"}, **spec}


def svg(spec: JsonObject) -> Markup:
    """A chart without scripts: an SVG of fixed height that takes its colours from the page."""
    return _svg(json.dumps(sized(_still(spec)) | {"width": WIDTH, "config": CONFIG}))


_DRAWER = """
import json, sys, vl_convert
for line in sys.stdin:
    spec = json.loads(line)
    if spec is None:
        made = vl_convert.javascript_bundle("window.vegaEmbed=vegaEmbed;")
    else:
        made = vl_convert.vegalite_to_svg(spec)
    print(json.dumps(made), flush=True)
"""
_drawers: list[subprocess.Popen[str]] = []
_lock = threading.Lock()


def _drawn(spec: str | None) -> str:
    """The SVG of a specification, or (null) the bundle, by a process of its own: a signal that reaches a thread inside
    V8 would abort this one."""
    with _lock:
        if not _drawers or _drawers[0].poll() is not None:
            _drawers[:] = [_start_drawer()]
        drawer = _drawers[0]
        assert drawer.stdin is not None and drawer.stdout is not None
        # One that has ended says nothing, which is told below.
        with suppress(BrokenPipeError):
            drawer.stdin.write(json.dumps(spec) + "\n")
            drawer.stdin.flush()
        if not (line := drawer.stdout.readline()):
            raise ActorFailedError(
                "the charts' process ended", "it was killed, or vl-convert failed", "write the report anew"
            )
        return json.loads(line)


def _start_drawer() -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    # In a session of its own, where no Ctrl-C of a terminal reaches it; it ends when its input does.
    words = [sys.executable, "-c", _DRAWER]
    return subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True, start_new_session=True)


@atexit.register
def _end_drawer() -> None:
    for drawer in _drawers:
        drawer.kill()
        drawer.communicate()


@lru_cache(MOST_KEPT)
def _svg(spec: str) -> Markup:
    drawn = _drawn(spec)
    head = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="100%" height="{HEIGHT}" aria-hidden="true" focusable="false">'
    return Markup(head + _DIGITS.sub(r"\1", drawn[drawn.index(">") + 1 :]))


def _still(part: Any) -> Any:
    """Without what only a pointer can use, and without clipping, whose ids would be the same in all drawings."""
    if isinstance(part, dict):
        return {key: _still(value) for key, value in part.items() if key not in ("params", "clip", "tooltip")}
    if isinstance(part, list):
        return [_still(one) for one in part if not (isinstance(one, dict) and one.get("name") == UNDER_POINTER)]
    return part
