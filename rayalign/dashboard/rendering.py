"""The templates of `templates/` filled: what stands on the page, and the frame that lets nothing else run."""

from __future__ import annotations

from functools import cache

import jinja2
from markupsafe import Markup

from rayalign.dashboard.front_end import front_end
from rayalign.dashboard.readings import Report, clean_report
from rayalign.dashboard.shell import json_text, policy, script_text


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
    return environment


def render_page(browser: Report | None, **content: object) -> str:
    """`report.html.j2` with `content`.

    Args:
        browser: what the front end is fed with; with None its part of the page, and its script, are left out.
    """
    front = front_end()
    scripts = [script_text(front.script)] if browser is not None and front.script else []
    serve = browser is not None and browser.get("mode") == "serve"
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            browser=None if browser is None else clean_report(browser),
            csp=policy(scripts, connect=serve),
            scripts=scripts,
            style=Markup(front.style),
            **content,
        )
    )


def render_static(template: str, **content: object) -> str:
    """Another template, of a page without scripts, with `content`; texts in it must be clean."""
    return _environment().get_template(template).render(csp=policy([]), style="", **content)
