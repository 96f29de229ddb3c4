"""Who is let in, and which addresses are refused."""

import re
import socket
import sys

import pytest
import viser
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from ffsplat.errors import UsageError
from ffsplat.view.server import is_told, open_server, url_of

PROTOCOL = Subprotocol(f"viser-v{viser.__version__}")


@pytest.fixture(scope="module")
def server():
    with open_server("127.0.0.1", 0, "a title") as (running, _):
        yield running


def first_message(port: int, url: str | None = None, **options) -> bytes:
    """What a client hears first, or ConnectionClosed."""
    url = url or f"ws://127.0.0.1:{port}"
    with connect(url, subprotocols=[PROTOCOL], proxy=None, max_size=None, **options) as socket_:
        return socket_.recv(timeout=10)


def test_our_own_page_and_programs_are_let_in(server):
    port = server.get_port()
    assert first_message(port)
    assert first_message(port, origin=f"http://127.0.0.1:{port}")


@pytest.mark.parametrize("origin", ["http://evil.example", "http://127.0.0.1:1", "null"])
def test_pages_of_other_origins_are_turned_away(server, origin):
    with pytest.raises(ConnectionClosed) as closed:
        first_message(server.get_port(), origin=origin)
    assert closed.value.rcvd.code == 1008


def test_a_name_that_was_made_to_point_here_is_turned_away(server):
    port = server.get_port()
    evil = f"evil.example:{port}"
    with socket.create_connection(("127.0.0.1", port)) as raw, pytest.raises(ConnectionClosed):
        first_message(port, sock=raw, url=f"ws://{evil}", origin=f"http://{evil}")


def test_nobody_can_have_a_public_address_made(server):
    assert server.request_share_url() is None
    assert server._share_tunnel is None


def test_the_url_of_the_page():
    assert url_of("127.0.0.1", 80) == "http://127.0.0.1:80"
    assert url_of("::1", 80) == "http://[::1]:80"
    assert url_of("a.example", 80, "s3") == (
        "http://a.example:80/?websocket=ws://a.example:80/?token=s3"
    )
    for wildcard in ("0.0.0.0", "::", ""):
        assert not re.search(r"0\.0\.0\.0|\[::\]", url_of(wildcard, 80, "s3"))


@pytest.mark.parametrize("path", ["/", "/?token=", "/?token=wrong", "/?other=s3", "/?token=s"])
def test_who_does_not_know_the_secret_is_not_told(path):
    assert is_told("/?token=s3", "s3")
    assert not is_told(path, "s3")


def test_from_other_machines_only_the_url_with_its_secret_lets_in():
    with open_server("0.0.0.0", 0, "") as (server, url):
        port = server.get_port()
        query = url.split("websocket=ws://")[1].partition("/")[2]
        assert first_message(port, f"ws://127.0.0.1:{port}/{query}")
        for wrong in ("", query[:-1]):
            with pytest.raises(ConnectionClosed) as closed:
                first_message(port, f"ws://127.0.0.1:{port}/{wrong}")
            assert closed.value.rcvd.code == 1008


def test_a_port_in_use_is_refused(server):
    port = server.get_port()
    with (
        pytest.raises(UsageError, match=f"cannot listen at 127.0.0.1:{port}"),
        open_server("127.0.0.1", port, ""),
    ):
        pass


@pytest.mark.parametrize("host", ["203.0.113.7", "no such host"])
def test_an_address_of_another_machine_is_refused(host):
    with pytest.raises(UsageError, match="cannot listen"), open_server(host, 0, ""):
        pass


def test_without_viser_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "viser", None)
    with pytest.raises(UsageError) as refused, open_server("127.0.0.1", 0, ""):
        pass
    assert 'pip install "ffsplat[view]"' in str(refused.value.hint)


def test_it_says_nothing_on_the_terminal(capfd):
    with open_server("127.0.0.1", 0, "a title"):
        pass
    assert capfd.readouterr() == ("", "")
