"""A server as a whole: where it listens, how it begins, and how it ends."""

import signal
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path
from shutil import which

import pytest

from ffsplat.errors import StreamError, UsageError
from ffsplat.stream.protocol.control import Bye, Error, Hello
from ffsplat.stream.replica.replica import Replica
from ffsplat.stream.server.serve import Address, ServerThread, check
from ffsplat.stream.server.settings import ServerSettings
from tests.stream.server.standin import StandIn, make_delta
from tests.stream.server.talk import PATIENCE, ask, client, frame, raw, same_map, serving

ROOT = Path(__file__).resolve().parents[3]


def test_addresses_are_those_that_programs_take():
    assert Address("127.0.0.1", 80, False).page == "http://127.0.0.1:80/"
    assert Address("127.0.0.1", 80, True).stream == "wss://127.0.0.1:80/stream"
    assert Address("::1", 80, False).stream == "ws://[::1]:80/stream"


def test_an_address_that_is_taken_is_named():
    engine = StandIn()
    with serving() as (_, address):
        server = ServerThread(engine, None, ServerSettings(port=address.port))
        with pytest.raises(StreamError, match=f"cannot listen on 127.0.0.1:{address.port}: "):
            server.start()
        with pytest.raises(StreamError, match="address already in use"):
            check(server.settings)
    engine.publish(20)  # nobody listens, and nothing waits


def test_a_bad_token_file_is_told_at_the_start(tmp_path: Path):
    settings = ServerSettings(port=0, token_file=tmp_path / "none")
    with pytest.raises(UsageError, match="cannot read the token file"):
        ServerThread(StandIn(), None, settings).start()
    with pytest.raises(UsageError, match="cannot read the token file"):
        check(settings)


def test_without_websockets_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "websockets.asyncio.server", None)
    for name in [name for name in sys.modules if name.startswith("ffsplat.stream.server.")]:
        if name.rsplit(".", 1)[1] in ("app", "gate", "routes", "session"):
            monkeypatch.delitem(sys.modules, name)
    with pytest.raises(UsageError) as refused:
        ServerThread(StandIn(), None, ServerSettings(port=0)).start()
    assert refused.value.hint == 'pip install "ffsplat[stream]"'


class Slow(StandIn):
    """An engine that stops when it is let, and changes the map until then."""

    def __init__(self):
        super().__init__(held=True)
        self.stopping, self.go = threading.Event(), threading.Event()

    def stop(self, timeout_s: float = 10.0) -> bool:
        self.stopping.set()
        assert self.go.wait(PATIENCE)
        return super().stop(timeout_s)


def test_the_end_is_orderly():
    engine = Slow()
    server = ServerThread(engine, None, ServerSettings(port=0, drain=5.0))
    address = server.start()
    with client(address) as one, client(address) as early:
        one.greet()
        one.send(frame(1))
        assert engine.came.acquire(timeout=PATIENCE)
        end = threading.Thread(target=server.stop)
        end.start()
        assert engine.stopping.wait(PATIENCE)
        assert ask(address, "/readyz")[0] == 503
        assert ask(address, "/healthz")[0] == 200
        with client(address) as late:
            assert late.closed()[0] == 4503
        early.send(Hello())
        code, error = early.closed()
        assert (code, error.retryable) == (4503, True)
        engine.go.set()
        seen = []
        while not (seen and isinstance(seen[-1], Error)):
            seen.append(one.receive())
        assert seen[-1].code == 4503
        assert seen[-1].message == "the server is shutting down"
        assert one.map.number == 1
        assert one.closed()[0] == 4503
    end.join(PATIENCE)
    assert not end.is_alive()
    assert engine.stopped_for == pytest.approx(0.7 * 5)
    with pytest.raises(OSError, match="refused"):
        ask(address, "/healthz")


def test_who_does_not_read_does_not_hold_up_the_end():
    engine = StandIn(splats=40_000)
    server = ServerThread(engine, None, ServerSettings(port=0, drain=1.0))
    address = server.start()
    with client(address, max_queue=1) as one, client(address) as two:
        one.greet(want=("delta",))
        two.greet()
        engine.publish(4)
        two.follow(4)
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < PATIENCE / 2
        assert two.map.number == 4


def test_who_is_in_the_middle_of_a_request_does_not_hold_up_the_end():
    server = ServerThread(StandIn(), None, ServerSettings(port=0, drain=60.0, handshake=60.0))
    address = server.start()
    with raw(address) as slow, client(address):
        slow.sendall(b"GET / HT")
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < PATIENCE


PROGRAM = """
import asyncio, sys
from ffsplat.stream.replica.replica import Replica
from ffsplat.stream.server.serve import serve
from ffsplat.stream.server.settings import ServerSettings
from tests.stream.server.standin import StandIn, make_delta
engine = StandIn()
asyncio.run(serve(engine, None, ServerSettings(port=0), ready=lambda a: print(a.port, flush=True)))
print("stopped", engine.stopped_for, flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_program_with_success(number):
    command = [sys.executable, "-c", PROGRAM]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        address = Address("127.0.0.1", int(process.stdout.readline()), is_tls=False)
        with client(address) as one:
            one.greet()
            one.send(frame(1))
            one.follow(1)
            process.send_signal(number)
            assert one.closed()[0] == 4503
        assert process.wait(PATIENCE) == 0
        assert process.stdout.read() == "stopped 7.0\n"
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that vouches for itself, and its key."""
    if which("openssl") is None:
        pytest.skip("the openssl program, which makes the certificate, is not there")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    names = ["-subj", "/CN=ffsplat", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-out", str(cert), "-keyout", str(key)]
    subprocess.run([*command.split(), *names, *files], check=True, capture_output=True)
    return cert, key


def test_tls_serves_who_trusts_the_certificate_and_nobody_else(certificate, tmp_path):
    cert, key = certificate
    token = tmp_path / "tokens"
    token.write_text("a-token-of-many-letters")
    options = {"host": "0.0.0.0", "token_file": token, "tls_cert": cert, "tls_key": key}
    with serving(**options) as (engine, address):
        address = Address("127.0.0.1", address.port, address.is_tls)
        trusting = ssl.create_default_context(cafile=str(cert))
        with client(address, ssl=trusting) as one:
            one.greet(token="a-token-of-many-letters")
            engine.publish(2)
            one.follow(2)
            one.send(Bye())
            assert one.closed()[0] == 1000
        with pytest.raises(ssl.SSLCertVerificationError), client(address):
            pass
        plain = Address("127.0.0.1", address.port, is_tls=False)
        with pytest.raises(Exception, match=r"valid HTTP|reset|closed"), client(plain):
            pass


@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_old_tls_is_refused(certificate, version):
    cert, key = certificate
    with serving(tls_cert=cert, tls_key=key) as (_, address):
        old = ssl.create_default_context(cafile=str(cert))
        old.set_ciphers("ALL:@SECLEVEL=0")
        old.minimum_version = old.maximum_version = ssl.TLSVersion[version]
        with pytest.raises((ssl.SSLError, OSError)), client(address, ssl=old):
            pass
        new = ssl.create_default_context(cafile=str(cert))
        new.maximum_version = ssl.TLSVersion.TLSv1_2
        with client(address, ssl=new) as one:
            one.greet()


def test_a_certificate_that_cannot_be_used_is_named(certificate, tmp_path):
    cert, _ = certificate
    other = tmp_path / "key.pem"
    other.write_text("no key")
    settings = ServerSettings(port=0, tls_cert=cert, tls_key=other)
    with pytest.raises(UsageError, match=r"cannot use .*cert.pem with .*key.pem"):
        ServerThread(StandIn(), None, settings).start()


def test_two_servers_of_one_engine_agree():
    engine = StandIn()
    with serving(engine) as (_, a), serving(engine) as (_, b), client(a) as one, client(b) as two:
        one.greet()
        two.greet()
        engine.publish(10)
        one.follow(10)
        two.follow(10)
        assert same_map(one.map, two.map)


def test_a_map_that_was_there_before_goes_on():
    replica = Replica()
    for number in range(1, 6):
        replica.apply(make_delta(number))
    engine = StandIn()
    engine.number = 4  # delta 5 is told again, which is harmless
    settings = ServerSettings(port=0, drain=3.0)
    with ServerThread(engine, replica, settings) as server, client(server.address) as one:
        assert one.greet().number == 5
        engine.publish(3)
        one.follow(7)
        assert one.snapshots == 1
        assert same_map(one.map, replica)
