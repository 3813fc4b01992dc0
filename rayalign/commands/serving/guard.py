"""What stands before every page: who may ask, what may be asked, and what a browser may do with the answer.

On a loopback address any process of this machine may ask, and so a page elsewhere could make a browser ask, by a name
of its own that leads here: therefore the Host header must be a name of this machine. On other addresses a token is
asked for, which a browser sends to the name that gave it the cookie only.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "rayalign"
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
NOTHING = "default-src 'none'; frame-ancestors 'none'"
"""The policy of an answer that brings none."""
Refuse = Callable[[Scope, int, str], Response]
"""Makes the answer to a request that is refused, from its status and the reason."""


@dataclass(frozen=True, slots=True)
class Door:
    """Who may come in."""

    token: str | None
    """Asked of everyone; null asks nobody."""
    loopback: bool
    """Whether only names of this machine are answered to."""

    def knows(self, given: str | None) -> bool:
        """Whether a token is the right one, told in the same time for any wrong one."""
        return given is not None and hmac.compare_digest(given.encode(), (self.token or "").encode())

    def answers_to(self, host: str) -> bool:
        """Whether a Host header may be meant for this server."""
        return not self.loopback or is_loopback(_name(host))


class Guard:
    """ASGI middleware that lets through what the door lets in, and reading only."""

    def __init__(self, app: ASGIApp, door: Door, refuse: Refuse) -> None:
        self._app, self._door, self._refuse = app, door, refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            answer = self._answer(scope)
            await (answer or self._app)(scope, receive, _secured(send))

    def _answer(self, scope: Scope) -> Response | None:
        """What is answered at the door; None lets the request in."""
        headers = Headers(scope=scope)
        if not self._door.answers_to(headers.get("host", "")):
            return self._refuse(scope, 421, "this server does not answer to that name: open it by 127.0.0.1")
        if scope["method"] not in ("GET", "HEAD"):
            answer = self._refuse(scope, 405, "this server is read only")
            answer.headers["Allow"] = "GET, HEAD"
            return answer
        if self._door.token is None:
            return None
        asked = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if self._door.knows(dict(asked).get("token")):
            return self._welcome(scope, [pair for pair in asked if pair[0] != "token"])
        kind, _, bearer = headers.get("authorization", "").partition(" ")
        if self._door.knows(_cookie(headers)) or (kind.lower() == "bearer" and self._door.knows(bearer)):
            return None
        return self._refuse(scope, 401, "open the address with ?token= that `rayalign serve` printed")

    def _welcome(self, scope: Scope, asked: list[tuple[str, str]]) -> Response:
        """The same address without the token, which the browser keeps as a cookie."""
        path = scope.get("raw_path", b"/").decode("latin-1").partition("?")[0]
        # A path of two slashes would lead to another server.
        target = f"/{path.lstrip('/')}{'?' + urlencode(asked) if asked else ''}"
        answer = RedirectResponse(target, 303)
        answer.set_cookie(COOKIE, self._door.token or "", httponly=True, samesite="lax", path="/")
        return answer


def _secured(send: Send) -> Callable[[Message], Awaitable[None]]:
    """`send` with the headers that every answer has."""

    async def secured(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.update(HEADERS)
            headers.setdefault("Content-Security-Policy", NOTHING)
        await send(message)

    return secured


def _cookie(headers: Headers) -> str | None:
    for line in headers.getlist("cookie"):
        try:
            found = SimpleCookie(line).get(COOKIE)
        except CookieError:
            continue
        if found is not None:
            return found.value
    return None


def _name(host: str) -> str:
    """The name in a Host header, without port."""
    if host.startswith("["):
        name, closed, _ = host[1:].partition("]")
        return name if closed else ""
    return host.rpartition(":")[0] if ":" in host else host


def is_loopback(name: str) -> bool:
    """Whether a host name or address is of this machine only.

    >>> is_loopback("localhost"), is_loopback("127.0.0.2"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    if name.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
