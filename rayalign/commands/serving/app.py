"""The pages and answers of `rayalign serve`: everything is read from the runs' files, nothing is written.

/                                          the runs
/runs/NAME                                 a run: the report's page, fed by what follows
/compare?run=A&run=B                       runs beside each other
/api/runs                                  the runs as JSON
/api/runs/NAME/facets, prompts, prompts/ID, events
"""

from __future__ import annotations

import dataclasses
import html
import re
from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.types import Scope

from rayalign.commands.compare import compare, comparison_charts, comparison_tables
from rayalign.commands.serving.events import Listeners
from rayalign.commands.serving.guard import Door, Guard
from rayalign.commands.serving.runs import Runs
from rayalign.dashboard.answer_query import Query
from rayalign.dashboard.page import report_data
from rayalign.dashboard.readings import clean_text
from rayalign.dashboard.rendering import render_other
from rayalign.dashboard.report import render_report
from rayalign.errors import ConfigError, DataError, RayalignError, RunFolderError
from rayalign.records import JsonObject

POLICY = re.compile(r'http-equiv="Content-Security-Policy" content="([^"]*)"')
MOST_COMPARED = 6


def make_app(runs: Runs, door: Door, listeners: Listeners, title: str = "runs") -> FastAPI:
    """The application.

    Args:
        title: what the list of runs is called.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Guard, door=door, refuse=refusal)
    _add_errors(app)
    _add_pages(app, runs, title)
    _add_answers(app, runs, listeners)
    return app


def _add_pages(app: FastAPI, runs: Runs, title: str) -> None:
    @app.api_route("/", methods=["GET", "HEAD"])
    def list_of_runs() -> Response:
        summaries = [runs.summary(name) for name in runs.names()]
        return page(render_other("runs.html.j2", name=clean_text(title), runs=summaries))

    @app.api_route("/runs/{name}", methods=["GET", "HEAD"])
    def run(name: str) -> Response:
        _known(runs, name)
        return page(runs.unchanged(name, "page", lambda: _page_of(runs, name)))

    @app.api_route("/compare", methods=["GET", "HEAD"])
    def comparison(request: Request) -> Response:
        names = list(dict.fromkeys(request.query_params.getlist("run")))
        if not 2 <= len(names) <= MOST_COMPARED:
            raise DataError(
                f"{len(names)} runs are chosen", f"2 to {MOST_COMPARED} can be compared", "choose them in the list"
            )
        for name in names:
            _known(runs, name)
        found = compare({name: runs.answers(name) for name in names})
        title = " and ".join(clean_text(name) for name in names)
        tables, notes = comparison_tables(found), found["notes"]
        charts = comparison_charts(found)
        return page(render_other("compare.html.j2", charts, name=title, runs=found["runs"], tables=tables, notes=notes))


def _page_of(runs: Runs, name: str) -> str:
    """A run's page, whose browser asks for answers relative to where the page is."""
    browser: JsonObject = {"mode": "serve", "run": name, "api": f"../api/runs/{quote(name, safe='')}"}
    data = report_data(runs.run(name), lambda: browser)
    return render_report(dataclasses.replace(data, status=runs.state(name).state))


def _add_answers(app: FastAPI, runs: Runs, listeners: Listeners) -> None:
    @app.api_route("/api/runs", methods=["GET", "HEAD"])
    def all_runs() -> Response:
        return JSONResponse([dataclasses.asdict(runs.summary(name)) for name in runs.names()])

    @app.api_route("/api/runs/{name}/facets", methods=["GET", "HEAD"])
    def facets(name: str) -> Response:
        _known(runs, name)
        return JSONResponse(runs.answers(name).facets())

    @app.api_route("/api/runs/{name}/prompts", methods=["GET", "HEAD"])
    def prompts(name: str, request: Request) -> Response:
        _known(runs, name)
        asked = request.query_params
        query = Query.of({key: asked.getlist(key) for key in asked})
        return JSONResponse(runs.answers(name).list(query))

    @app.api_route("/api/runs/{name}/prompts/{prompt_id}", methods=["GET", "HEAD"])
    def prompt(name: str, prompt_id: str, purpose: str = "evaluation") -> Response:
        _known(runs, name)
        found = runs.answers(name).view(prompt_id, purpose)
        if found is None:
            raise HTTPException(404, "no answers of this purpose to such a prompt are committed")
        return JSONResponse(found)

    @app.api_route("/api/runs/{name}/events", methods=["GET", "HEAD"])
    async def events(name: str, request: Request) -> Response:
        _known(runs, name)
        headers = {"X-Accel-Buffering": "no"}
        if request.method == "HEAD":
            return Response(media_type="text/event-stream", headers=headers)
        if not listeners.room:
            raise HTTPException(503, f"{listeners.most} pages listen already: close one")
        return StreamingResponse(listeners.changes(runs, name), media_type="text/event-stream", headers=headers)


def _known(runs: Runs, name: str) -> None:
    if name not in runs.names():
        raise HTTPException(404, "there is no such run")


def page(text: str) -> Response:
    """A page with the policy that it states itself also as a header, which nothing in the page comes before."""
    stated = POLICY.search(text)
    policy = html.unescape(stated[1]) if stated else "default-src 'none'"
    content = text.encode("utf-8", "replace")
    return HTMLResponse(content, headers={"Content-Security-Policy": f"{policy}; frame-ancestors 'none'"})


# -- errors


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(RayalignError)
    def ours(request: Request, error: Exception) -> Response:
        status = 400 if isinstance(error, DataError | ConfigError) else 500
        if isinstance(error, RunFolderError):
            status = 409
        return refusal(request.scope, status, str(error))

    @app.exception_handler(HTTPException)
    def http(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        detail = error.detail if isinstance(error, HTTPException) else ""
        return refusal(request.scope, status, detail)

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: Exception) -> Response:
        return refusal(request.scope, 400, "a parameter has a value that cannot be meant")

    @app.exception_handler(Exception)
    def unknown(request: Request, error: Exception) -> Response:
        return refusal(request.scope, 500, f"{type(error).__name__}: the terminal of `rayalign serve` says more")


def refusal(scope: Scope, status: int, text: str) -> Response:
    """An answer that says what is wrong: JSON below /api, a page elsewhere."""
    text = clean_text(text)
    if str(scope.get("path", "")).startswith("/api/"):
        return JSONResponse({"detail": text}, status)
    title = f"{status} {_phrase(status)}"
    answer = page(render_other("message.html.j2", name=title, text=text))
    answer.status_code = status
    return answer


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in _KNOWN else ""


_KNOWN: Mapping[int, str] = {int(one): one.phrase for one in HTTPStatus}
