"""What the server answers to plain HTTP: its page, its health and its counters, and nothing else.

Paths are looked up in a table and never become names of files, so none can lead outside.
"""

import json
import logging
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from importlib.resources import files

from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from ffsplat.stream.engine.metrics import CONTENT_TYPE
from ffsplat.stream.server.auth import Tokens, bearer, header_of, is_host_local, is_origin_allowed
from ffsplat.stream.server.counters import Counters

log = logging.getLogger(__name__)

MAX_PATH = 200
"""Characters of a path in the log."""

SOCKET = "/stream"
"""The path of the WebSocket."""

SCRIPTS = (
    "camera", "connection", "controls", "document", "geometry", "gl", "lines", "main", "messages",
    "questions", "replica", "runs", "shaders", "sort", "splats", "view", "wire",
)  # fmt: skip

PAGE = {
    "/": "index.html",
    "/style.css": "style.css",
    "/icon.svg": "icon.svg",
    **{f"/{name}.js": f"{name}.js" for name in SCRIPTS},
}
"""Files of the page, by path; all of them lie in `page/` and hold no data of the map."""

HEALTH = {"/healthz": "alive", "/readyz": "ready"}
"""What must be true for an answer of 200 in place of 503."""

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

TEXT = "text/plain; charset=utf-8"

PROTECTION = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
"""Headers of every answer: scripts, styles and connections only of our own, in nobody's frame."""


class Routes:
    """Decides on each request: an answer, or None for a WebSocket that may go on.

    `health` gives what /healthz and /readyz say, `metrics` the text of /metrics. The first two are
    open to all, as those who restart a server know no token; /metrics asks for one where there are
    any.
    """

    def __init__(
        self,
        tokens: Tokens | None,
        origins: tuple[str, ...],
        health: Callable[[], Mapping[str, bool | int]],
        metrics: Callable[[], str],
        counters: Counters,
    ):
        self.tokens = tokens
        self.origins = origins
        self.health = health
        self.metrics = metrics
        self.counters = counters
        self.page = {path: _resource(name) for path, name in PAGE.items()}

    def __call__(self, connection: ServerConnection, request: Request) -> Response | None:
        """`process_request` of `websockets.asyncio.server.serve`."""
        status, kind, body = self._answer(request)
        if status is None:
            return None
        quiet = status == HTTPStatus.OK and request.path in (*HEALTH, "/metrics")
        peer = (connection.remote_address or ("",))[0]
        facts = {"path": request.path[:MAX_PATH], "status": status.value, "peer": peer}
        log.log(logging.DEBUG if quiet else logging.INFO, "request", extra=facts)
        if status >= 400 and not body:
            self.counters.add("refused_total", reason=str(status.value))
        text = body or f"{status.value} {status.phrase}\n".encode()
        headers = {"Content-Type": kind, "Content-Length": str(len(text))}
        if status == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = "Bearer"
        headers |= {"Connection": "close"} | PROTECTION
        return Response(status.value, status.phrase, Headers(headers), text)

    def _answer(self, request: Request) -> tuple[HTTPStatus | None, str, bytes]:
        """Status, type and body; no status for a WebSocket, no body where the status says it."""
        host, origin = header_of(request, "Host"), header_of(request, "Origin")
        if self.tokens is None and not is_host_local(host):
            return HTTPStatus.FORBIDDEN, TEXT, b""
        if not is_origin_allowed(origin, host, self.origins):
            return HTTPStatus.FORBIDDEN, TEXT, b""
        path = request.path
        if path == SOCKET:
            return None, "", b""
        if path in self.page:
            return HTTPStatus.OK, *self.page[path]
        if path in HEALTH:
            health = self.health()
            status = HTTPStatus.OK if health[HEALTH[path]] else HTTPStatus.SERVICE_UNAVAILABLE
            return status, "application/json", json.dumps(dict(health)).encode() + b"\n"
        if path == "/metrics":
            token = bearer(header_of(request, "Authorization"))
            if self.tokens is not None and self.tokens.accept(token, time.time()) is None:
                return HTTPStatus.UNAUTHORIZED, TEXT, b""
            return HTTPStatus.OK, CONTENT_TYPE, self.metrics().encode()
        return HTTPStatus.NOT_FOUND, TEXT, b""


def _resource(name: str) -> tuple[str, bytes]:
    """Type and content of a file of the page."""
    file = files("ffsplat.stream.server") / "page" / name
    return TYPES[name[name.rindex(".") :]], file.read_bytes()
