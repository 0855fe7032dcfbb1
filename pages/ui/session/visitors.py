"""Who looks at the page: every browser is given a cookie to be known by, that no script can read.

Light to import: the server reads it before it answers anybody.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "fpgm_visitor"
_DAYS = 180
_TOKEN = re.compile(r"[A-Za-z0-9_-]{22}")


def visitor_in(cookies: Mapping[str, str]) -> str | None:
    """The visitor that a browser's cookies name; None where they name none that was given here."""
    found = cookies.get(COOKIE, "")
    return found if _TOKEN.fullmatch(found) else None


class VisitorCookie:
    """ASGI middleware: the answer to a page that came without a cookie brings one, hard to guess."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http" or scope["method"] != "GET" or visitor_in(HTTPConnection(scope).cookies):
            await self._app(scope, receive, send)
            return

        async def with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if headers.get("content-type", "").startswith("text/html"):  # the page itself, not what it loads
                    headers.append("set-cookie", _new_cookie(secure=scope.get("scheme") == "https"))
            await send(message)

        await self._app(scope, receive, with_cookie)


def _new_cookie(*, secure: bool) -> str:
    text = f"{COOKIE}={secrets.token_urlsafe(16)}; Path=/; HttpOnly; SameSite=Lax; Max-Age={_DAYS * 86_400}"
    return f"{text}; Secure" if secure else text
