"""viser as a server that can be left alone: on this machine, for its own page, silent."""

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ffsplat.errors import UsageError
from ffsplat.stream.server.auth import is_host_local, is_origin_allowed
from ffsplat.stream.server.settings import is_loopback

if TYPE_CHECKING:
    import viser

LOCALHOST = "127.0.0.1"
PORT = 8080

_POLICY_VIOLATION = 1008  # RFC 6455, section 7.4.1


@contextmanager
def open_server(host: str, port: int, label: str) -> Iterator["viser.ViserServer"]:
    """A viser server at an address (port 0: a free one) while the block runs.

    Pages of other origins are turned away, and so are names that were made to point here; nobody
    can make viser open its public tunnel. Raises UsageError if viser is not installed or the
    address cannot be had; viser itself would take another port, or wait forever.
    """
    viser = _viser()
    _check_address(host, port)
    server = viser.ViserServer(host, port, label=label, verbose=False)
    try:
        _guard(server, host)
        yield server
    finally:
        server.stop()


def address_of(server: "viser.ViserServer", host: str) -> str:
    """The URL of the page."""
    shown = LOCALHOST if host in ("0.0.0.0", "::", "") else host
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{server.get_port()}"


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
        raise UsageError(
            f"cannot listen at {host}:{port}: {error.strerror or error}",
            "--port 0 takes a free one",
        ) from error


def _guard(server: "viser.ViserServer", host: str) -> None:
    """Let in our own page alone: viser itself asks nobody who they are."""
    websockets: Any = server._websock_server

    def is_ours(headers: Any) -> bool:
        asked, origin = headers.get("Host"), headers.get("Origin")
        return is_origin_allowed(origin, asked, ()) and (
            not is_loopback(host) or is_host_local(asked)
        )

    async def admit(connection: Any) -> None:
        # Called before the first message either way.
        live = websockets._live_connections[connection.client_id]
        if not is_ours(live.request.headers):
            await live.close(_POLICY_VIOLATION, "another origin")

    websockets.on_client_connect(admit)
    websockets.disconnect_all_clients()  # who came before there was a guard comes again

    def refuse(*_: object, **__: object) -> None:
        logging.getLogger(__name__).warning("a page asked for a public address: refused")

    server.request_share_url = refuse  # type: ignore[method-assign]
