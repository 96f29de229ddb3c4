"""viser as a server that can be left alone: on this machine, for its own page, silent."""

import errno
import hmac
import logging
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from ffsplat.errors import UsageError
from ffsplat.stream.server.auth import is_host_local, is_origin_allowed
from ffsplat.stream.server.settings import is_loopback

if TYPE_CHECKING:
    import viser

LOCALHOST = "127.0.0.1"
PORT = 8080

SECRET_BYTES = 16

_POLICY_VIOLATION = 1008  # RFC 6455, section 7.4.1


@contextmanager
def open_server(host: str, port: int, label: str) -> Iterator[tuple["viser.ViserServer", str]]:
    """A viser server at an address (port 0: a free one) and the URL of its page, for a block.

    Pages of other origins are turned away, and so are names that were made to point here; nobody
    can make viser open its public tunnel. Where other machines may reach it, the URL holds a secret
    without which nobody is told anything. Raises UsageError if viser is not installed or the
    address cannot be had; viser itself would take another port, or wait forever.
    """
    viser = _viser()
    _check_address(host, port)
    secret = "" if is_loopback(host) else secrets.token_urlsafe(SECRET_BYTES)
    server = viser.ViserServer(host, port, label=label, verbose=False)
    try:
        _guard(server, host, secret)
        yield server, url_of(host, server.get_port(), secret)
    finally:
        server.stop()


def url_of(host: str, port: int, secret: str = "") -> str:
    """The URL of the page; a page that is to show a secret is told which socket to show it to."""
    place = _outward(host) if host in ("0.0.0.0", "::", "") else host.strip("[]")
    place = f"{f'[{place}]' if ':' in place else place}:{port}"
    return f"http://{place}" + (f"/?websocket=ws://{place}/?token={secret}" if secret else "")


def _outward(host: str) -> str:
    """The address by which other machines know this one, as far as it knows itself."""
    family, far = (
        (socket.AF_INET6, "2001:db8::1") if host == "::" else (socket.AF_INET, "192.0.2.1")
    )
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((far, 9))  # nothing is sent: the system only chooses a way
        except OSError:
            return socket.gethostname()
        return probe.getsockname()[0]


def _viser() -> Any:
    try:
        import rich
        import viser
    except ImportError as error:
        raise UsageError(
            "the viewer needs viser, which is not installed", 'pip install "ffsplat[view]"'
        ) from error
    rich.get_console().quiet = True  # viser prints its addresses and its end to stdout
    return viser


def _check_address(host: str, port: int) -> None:
    try:
        family, *_, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(place)
    except OSError as error:
        is_taken = error.errno in (errno.EADDRINUSE, errno.EACCES)
        hint = (
            "--port 0 takes a free one" if is_taken else "--host takes an address of this machine"
        )
        raise UsageError(
            f"cannot listen at {host}:{port}: {error.strerror or error}", hint
        ) from error


def _guard(server: "viser.ViserServer", host: str, secret: str) -> None:
    """Let in our own page alone: viser itself asks nobody who they are."""
    websockets: Any = server._websock_server

    def is_ours(request: Any) -> bool:
        asked, origin = request.headers.get("Host"), request.headers.get("Origin")
        if not is_origin_allowed(origin, asked, ()):
            return False
        return is_told(request.path, secret) if secret else is_host_local(asked)

    async def admit(connection: Any) -> None:
        # Called before the first message either way.
        live = websockets._live_connections[connection.client_id]
        if not is_ours(live.request):
            await live.close(_POLICY_VIOLATION, "another origin, or no token")

    websockets.on_client_connect(admit)
    websockets.disconnect_all_clients()  # who came before there was a guard comes again

    def refuse(*_: object, **__: object) -> None:
        logging.getLogger(__name__).warning("a page asked for a public address: refused")

    server.request_share_url = refuse  # type: ignore[method-assign]


def is_told(path: str, secret: str) -> bool:
    """Whether the target of a request bears the secret; takes as long for any wrong one."""
    shown = parse_qs(urlsplit(path).query).get("token", [""])[0]
    return hmac.compare_digest(shown.encode(), secret.encode())
