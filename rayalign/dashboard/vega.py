"""Vega, Vega-Lite and Vega-Embed as one script for the page, and charts as SVG without a browser."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from pathlib import Path

from rayalign.errors import ModelError
from rayalign.store.cache import cache_folder, made_once


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
    import vl_convert

    # A function of its own: the bundle's names are short ones that other scripts may have too.
    return f"(function(){{{vl_convert.javascript_bundle('window.vegaEmbed=vegaEmbed;')}\n}})();"
