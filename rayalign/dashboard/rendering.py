"""The templates of `templates/` filled: what stands on the page, and the frame that lets nothing else run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.resources import files

import jinja2
from markupsafe import Markup

from rayalign.dashboard.charts import Chart
from rayalign.dashboard.front_end import front_end
from rayalign.dashboard.readings import Report, clean_report, cut
from rayalign.dashboard.shell import json_text, policy, script_text
from rayalign.dashboard.vega import CONFIG, bundle, sized, svg
from rayalign.records import JsonObject

LONGEST_NAME = 200
"""Characters of a name or of a table's cell."""


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("rayalign.dashboard", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["page_json"] = json_text
    environment.filters["svg"] = svg
    environment.filters["short"] = lambda value: cut(str(value), LONGEST_NAME)
    return environment


def render_page(browser: Callable[[], Report] | None, charts: Mapping[str, Chart], **content: object) -> str:
    """`report.html.j2` with `content`.

    Args:
        browser: gives what the front end is fed with, and is called while the charts are drawn; with None its part of
            the page, and its script, are left out.
        charts: all charts, by the id of their place.
    """
    with ThreadPoolExecutor(1) as drawer:
        ahead = [drawer.submit(svg, chart.spec) for chart in charts.values()]
        fed = None if browser is None else clean_report(browser(), None)
        for drawing in ahead:
            drawing.result()
    front = front_end()
    sources = [bundle(), _drawing()] if charts else []
    sources += [front.script] if fed is not None and front.script else []
    scripts = [script_text(source) for source in sources]
    serve = fed is not None and fed.get("mode") == "serve"
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            browser=fed,
            csp=policy(scripts, connect=serve),
            charts=charts,
            drawn=_drawn(charts),
            scripts=scripts,
            style=Markup(front.style),
            **content,
        )
    )


@cache
def _drawing() -> str:
    """The script that draws the charts."""
    return files("rayalign.dashboard").joinpath("templates", "charts.js").read_text("utf-8")


def render_other(template: str, charts: Mapping[str, Chart] | None = None, **content: object) -> str:
    """Another template than the report's, without a browser of answers; texts in `content` must be clean."""
    scripts = [script_text(source) for source in (bundle(), _drawing())] if charts else []
    return (
        _environment()
        .get_template(template)
        .render(
            csp=policy(scripts, forms=True),
            charts=charts or {},
            drawn=_drawn(charts or {}),
            scripts=scripts,
            style="",
            **content,
        )
    )


def _drawn(charts: Mapping[str, Chart]) -> JsonObject | None:
    """What the drawing script reads; None where there is nothing to draw."""
    specs = {name: sized(chart.spec) for name, chart in charts.items()}
    return {"config": CONFIG, "specs": specs} if specs else None
