"""What a server answers to plain HTTP, and what it refuses before it reads it."""

import json
import socket
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.stream.server.talk import PATIENCE, answer, ask, client, raw, serving

TOKEN = "a-token-of-many-letters"


def status_of(found: bytes) -> int:
    return int(found.split(b" ", 2)[1])


def test_the_page_is_served_and_lets_only_its_own_scripts_run():
    with serving() as (_, address):
        status, found = ask(address, "/")
        assert status == 200
        assert b"<!doctype html>" in found
        assert b"Content-Security-Policy: default-src 'self';" in found
        assert b"X-Content-Type-Options: nosniff" in found
        assert b"Server:" not in found
        assert ask(address, "/style.css")[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/index.html",
        "/page/index.html",
        "/../server/app.py",
        "/%2e%2e/app.py",
        "/..%2fapp.py",
        "/style.css/",
        "/style.css%00",
        "/style.css\0",
        "//etc/passwd",
        "/etc/passwd",
        "etc/passwd",
        "file:///etc/passwd",
        "http://127.0.0.1/",
        "/metrics/../metrics",
        "/METRICS",
        "/?",
        "*",
    ],
)
def test_every_other_path_is_not_found(path):
    with serving() as (_, address):
        status, found = ask(address, path)
        assert status == 404
        body = found.split(b"\r\n\r\n", 1)[1]
        assert body == b"404 Not Found\n"


def test_health_and_readiness_follow_the_engine():
    with serving() as (engine, address):
        status, found = ask(address, "/healthz")
        health = json.loads(found.split(b"\r\n\r\n", 1)[1])
        assert status == 200
        assert health["alive"] is health["ready"] is True
        engine.ready = False
        assert [ask(address, path)[0] for path in ("/healthz", "/readyz")] == [200, 503]
        engine.ready, engine.alive = True, False
        assert [ask(address, path)[0] for path in ("/healthz", "/readyz")] == [503, 503]


def test_metrics_are_those_of_engine_and_server_and_parse():
    with serving() as (engine, address), client(address) as one:
        one.greet()
        engine.publish()
        one.follow(1)
        status, found = ask(address, "/metrics")
        text = found.split(b"\r\n\r\n", 1)[1].decode()
        families = {family.name: family for family in text_string_to_metric_families(text)}
        assert status == 200
        assert "ffsplat_frames_received" in families
        values = {
            name: families[f"ffsplat_server_{name}"].samples for name in ("sessions", "map_delta")
        }
        assert {name: samples[0].value for name, samples in values.items()} == {
            "sessions": 1,
            "map_delta": 1,
        }


def test_metrics_ask_for_the_token_where_there_is_one(tmp_path: Path):
    file = tmp_path / "tokens"
    file.write_text(TOKEN)
    with serving(token_file=file) as (_, address):
        assert ask(address, "/metrics")[0] == 401
        assert ask(address, "/metrics", "Authorization: Bearer wrong")[0] == 401
        assert ask(address, "/metrics", f"Authorization: Bearer {TOKEN}")[0] == 200
        twice = [f"Authorization: Bearer {TOKEN}"] * 2
        assert ask(address, "/metrics", *twice)[0] == 401
        assert [ask(address, path)[0] for path in ("/", "/healthz", "/readyz")] == [200] * 3


def test_a_name_that_was_pointed_at_this_machine_is_refused():
    with serving() as (_, address):
        for path in ("/", "/metrics", "/stream", "/healthz"):
            assert ask(address, path, f"Host: evil.example:{address.port}")[0] == 403
        assert ask(address, "/", f"Host: localhost:{address.port}")[0] == 200


def test_a_foreign_page_is_refused():
    with serving(origins=("http://friend.example",)) as (_, address):
        for path in ("/metrics", "/stream"):
            assert ask(address, path, "Origin: http://evil.example")[0] == 403
        assert ask(address, "/metrics", "Origin: http://friend.example")[0] == 200


def test_a_plain_request_for_the_socket_is_told_to_upgrade():
    with serving() as (_, address):
        assert ask(address, "/stream")[0] == 426


@pytest.mark.parametrize("method", ["POST", "PUT", "HEAD", "OPTIONS", "TRACE", "get", "PRI"])
def test_only_get_is_allowed(method):
    with serving() as (_, address):
        status, found = ask(address, "/", method=method)
        assert status == 405
        assert b"Allow: GET" in found


def pour(connection: socket.socket, total: int) -> int:
    """Send up to so many bytes, until nobody takes them any more; how many were taken."""
    connection.settimeout(0.2)
    sent, block = 0, bytes(1 << 16)
    try:
        while sent < total:
            sent += connection.send(block)
    except OSError:
        pass
    connection.settimeout(PATIENCE)
    return sent


@pytest.mark.parametrize("head", ["POST / HTTP/1.1", "GET / HTTP/1.1"])
@pytest.mark.parametrize("body", ["Content-Length: 300000000", "Transfer-Encoding: chunked"])
def test_a_large_body_is_refused_and_not_read(head, body):
    with serving() as (_, address), raw(address) as connection:
        connection.sendall(f"{head}\r\nHost: {address.host}\r\n{body}\r\n\r\n".encode())
        assert pour(connection, 300_000_000) < 30_000_000  # what the kernel holds on both sides
        assert status_of(answer(connection)) == (405 if head.startswith("POST") else 413)


def test_a_body_of_no_bytes_is_none():
    with serving() as (_, address):
        assert ask(address, "/", "Content-Length: 0")[0] == 200


def test_a_head_that_is_too_long_is_refused():
    with serving(max_head_bytes=2000) as (_, address):
        assert ask(address, "/", *[f"X-{i}: {'x' * 40}" for i in range(60)])[0] == 431
        with raw(address) as connection:
            connection.sendall(b"GET /" + b"a" * 3000)
            assert status_of(answer(connection)) == 431


def test_what_is_no_http_is_cut_off():
    with serving(handshake=60.0) as (_, address):
        for junk in (
            b"\x16\x03\x01\x02\x00\x01",
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET \xff HTTP/1.1\r\n\r\n",
        ):
            with raw(address) as connection:
                connection.sendall(junk)
                assert b"200" not in answer(connection)


def test_who_sends_slowly_is_closed_in_time_and_others_are_served():
    with serving(handshake=0.5) as (_, address):
        began = time.monotonic()
        slow = [raw(address) for _ in range(100)]
        for connection in slow:
            connection.sendall(b"GET / HT")
        assert ask(address, "/healthz")[0] == 200
        assert [answer(connection) for connection in slow] == [b""] * 100
        assert time.monotonic() - began < 0.5 + PATIENCE / 2
        for connection in slow:
            connection.close()
