"""Who may come in, and what may be asked for: tokens, origins, paths, TLS."""

import asyncio
import os
import random
import ssl
import subprocess
import time
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from ffsplat.errors import StreamError, UsageError
from ffsplat.stream.client import Client
from ffsplat.stream.protocol.control import Hello, Welcome
from ffsplat.stream.protocol.errors import ProtocolError
from ffsplat.stream.server.auth import Tokens
from ffsplat.stream.server.serve import Address
from ffsplat.stream.server.settings import ServerSettings
from tests.stream.safety.figures import Figure, open_files, percentile
from tests.stream.safety.lives import Life, Nursery
from tests.stream.safety.stack import stack, until
from tests.stream.server.talk import Client as Talker
from tests.stream.server.talk import answer, ask, client, raw, serving

TRIES = int(os.environ.get("FFSPLAT_SAFETY_TRIES", "2000"))
TOKEN = "the-right-token-of-many-letters-0123456789"
ENDED = "a-token-that-has-ended-0123456789"


def token_file(folder: Path) -> Path:
    path = folder / "tokens"
    path.write_text(f"{TOKEN}\n{ENDED} 2020-01-01\n")
    path.chmod(0o600)
    return path


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that vouches for itself, and its key."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    names = ["-subj", "/CN=ffsplat", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-out", str(cert), "-keyout", str(key)]
    subprocess.run([*command.split(), *names, *files], check=True, capture_output=True)
    return cert, key


def tokens(folder: Path) -> list[Figure]:
    """Each kind of token, in a hello and in the request's header, and for the metrics."""
    shown = {"none": "", "wrong": TOKEN[:-1] + "x", "half": TOKEN[:20], "ended": ENDED}
    found = []
    with stack(token_file=token_file(folder)) as served:
        for what, token in {**shown, "right": TOKEN}.items():
            header = [("Authorization", f"Bearer {token}")] if token else []
            with client(served.address) as one:
                first = greeted(one, token)
            with client(served.address, additional_headers=header) as one:
                second = greeted(one, "")
            status = ask(served.address, "/metrics", *(": ".join(one) for one in header))[0]
            asked = ("welcome", "welcome", 200) if what == "right" else (4401, 4401, 401)
            found.append(
                Figure(
                    f"S7 token: {what}",
                    f"{asked[0]}, {asked[2]}",
                    f"{first} by hello, {second} by header, {status} for metrics",
                    (first, second, status) == asked,
                )
            )
    return found


def greeted(one: Talker, token: str) -> int | str:
    """How a hello is answered."""
    one.send(Hello(token=token, want=()))
    try:
        one.wait_for(Welcome)
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else 1006
    return "welcome"


def timing(folder: Path, tries: int) -> Figure:
    """What the seconds of a refusal say of how much of a guess was right."""
    known = Tokens.read(token_file(folder))
    guesses = {
        "nothing right": "x" * len(TOKEN),
        "half right": TOKEN[:20] + "x" * (len(TOKEN) - 20),
        "all but one": TOKEN[:-1] + "x",
        "too short": TOKEN[:5],
    }
    seconds: dict[str, list[float]] = {what: [] for what in guesses}
    draw, now = random.Random(3), time.time()
    for _ in range(tries):
        for what in draw.sample(list(guesses), len(guesses)):  # so that drifts hit all alike
            began = time.perf_counter()
            known.accept(guesses[what], now)
            seconds[what].append(time.perf_counter() - began)
    medians = [percentile(values, 0.5) for values in seconds.values()]
    worst = max(medians) - min(medians)
    return Figure(
        f"S7 time of {tries} refusals of {len(guesses)} kinds",
        "apart < 1 ms",
        f"{1e6 * worst:.2f} us apart (medians)",
        worst < 1e-3,
    )


HOSTS = ("0.0.0.0", "::", "192.0.2.1", "example.org", "")


def strangers() -> Figure:
    """Addresses that others reach, without a token."""
    refused = []
    for host in HOSTS:
        try:
            ServerSettings(host=host)
        except UsageError as error:
            refused.append("without a token" in str(error))
    return Figure(
        "S7 listening to others without a token",
        "refused at the start",
        f"{sum(refused)} of {len(HOSTS)} hosts refused",
        sum(refused) == len(HOSTS),
    )


NAMES = ("etc/passwd", "server/app.py", "page/index.html", "tokens", "index.html")
STARTS = (
    "/../", "/../../../../../../", "/..%2f", "/%2e%2e/", "/%2e%2e%2f", "/.%2e/", "/%252e%252e/",
    "/..\\", "/%5c..%5c", "/..;/", "/....//", "//", "///", "/./", "/style.css/../", "/stream/../",
    "/metrics/../", "/healthz/..%2f", "file:///", "http://127.0.0.1/../", "/%00/", "/\\..\\",
    "/style.css%00/", "/style.css\0", "/%c0%ae%c0%ae/", "/%uff0e%uff0e/", "~/", "/~root/",
)  # fmt: skip


def paths(address: Address) -> Figure:
    """Paths that lead outside, written in every way."""
    asked = [start + name for start in STARTS for name in NAMES]
    found = [ask(address, path) for path in asked]
    others = {status for status, _ in found} - {404}
    leaked = sum(b"root:" in body or b"import " in body for _, body in found)
    return Figure(
        f"S8 {len(asked)} paths that lead outside",
        "404",
        f"{sum(status == 404 for status, _ in found)} times 404, others {sorted(others)}, "
        f"{leaked} leaked",
        not leaked and others <= {0, 400},
    )


ORIGINS = (
    "http://evil.example", "https://evil.example", "null", "file://", "http://127.0.0.1.evil.example",
    "http://127.0.0.1@evil.example", "http://127.0.0.1:1", "http://localhost", "", "chrome://x",
)  # fmt: skip


def origins(address: Address) -> Figure:
    """Pages of others that ask for the map, or for anything else."""
    kept = []
    for origin in ORIGINS:
        try:
            with client(address, additional_headers=[("Origin", origin)]):
                kept.append(origin)
        except InvalidStatus as error:
            kept += [] if error.response.status_code == 403 else [origin]
        if ask(address, "/metrics", f"Origin: {origin}")[0] != 403:
            kept.append(f"{origin} for metrics")
    own = ask(address, "/", f"Host: {address.host}:{address.port}",
              f"Origin: http://{address.host}:{address.port}")[0]  # fmt: skip
    return Figure(
        f"S9 {len(ORIGINS)} foreign origins",
        "403; our own page 200",
        f"let in: {kept or 'none'}; own page {own}",
        not kept and own == 200,
    )


def tls(folder: Path) -> list[Figure]:
    """Versions of TLS, and our client before a certificate that nobody vouches for."""
    cert, key = certificate(folder)
    spoken = {}
    with serving(tls_cert=cert, tls_key=key) as (_, address):
        for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2,
                        ssl.TLSVersion.TLSv1_3):  # fmt: skip
            spoken[version.name] = speaks(address, version)
        plain = ask(Address(address.host, address.port, False), "/")[0]
        refused = asyncio.run(mistrusts(address.stream))
    good = {"TLSv1": False, "TLSv1_1": False, "TLSv1_2": True, "TLSv1_3": True}
    return [
        Figure(
            "S10 versions of TLS",
            "1.2 and later only",
            ", ".join(name for name, works in spoken.items() if works) + f"; plain HTTP: {plain}",
            spoken == good and plain == 0,
        ),
        Figure(
            "S10 our client and a bad certificate", "refused", refused, "certificate" in refused
        ),
    ]


def speaks(address: Address, version: ssl.TLSVersion) -> bool:
    """Whether a server speaks one version of TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")
    try:
        with raw(address) as plain, context.wrap_socket(plain):
            return True
    except OSError:
        return False


async def mistrusts(url: str) -> str:
    """What our client says of a server whose certificate nobody vouches for."""
    try:
        async with Client(url, patience=1.0):
            return "let in"
    except (StreamError, ProtocolError) as error:
        return str(error)


def handshakes(life: Life, address: Address, count: int, cap: int, patience: float) -> Figure:
    """Clients that begin with TLS, or do not even do that."""
    before = open_files(life.pid)
    flood = []
    for i in range(count):
        one = raw(address)
        one.sendall((b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n")[i % 3])
        flood.append(one)
    began = time.monotonic()
    most = 0
    for one in flood:
        most = max(most, open_files(life.pid) - before)
        one.settimeout(60)
        answer(one)
    seconds = time.monotonic() - began
    for one in flood:
        one.close()
    until(lambda: open_files(life.pid) <= before + 5)
    return Figure(
        f"S3 {count} handshakes of TLS that never end, cap {cap}",
        f"closed <= {patience + 2:g} s, cap holds",
        f"{seconds:.1f} s, {most} descriptors more at most",
        seconds <= patience + 2 and most <= cap + 105,
    )


needs_openssl = pytest.mark.skipif(which("openssl") is None, reason="openssl makes certificates")


def test_a_token_that_holds_and_no_other_lets_in(tmp_path):
    for figure in tokens(tmp_path):
        assert figure.holds, figure


def test_the_time_of_a_refusal_says_nothing(tmp_path):
    figure = timing(tmp_path, TRIES)
    assert figure.holds, figure


def test_nobody_listens_to_strangers_without_a_token():
    figure = strangers()
    assert figure.holds, figure


def test_no_path_leads_outside():
    with serving() as (_, address):
        figure = paths(address)
    assert figure.holds, figure


def test_no_foreign_page_comes_in():
    with serving() as (_, address):
        figure = origins(address)
    assert figure.holds, figure


@needs_openssl
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_old_tls_is_not_spoken_and_bad_certificates_are_refused(tmp_path):
    for figure in tls(tmp_path):
        assert figure.holds, figure


@needs_openssl
def test_handshakes_that_never_end_are_capped_and_closed(nursery, tmp_path):
    cert, key = certificate(tmp_path)
    life = nursery.live("--tls-cert", cert, "--tls-key", key, handshake=1.0, max_connections=20)
    figure = handshakes(life, life.address, 200, 20, 1.0)
    life.end()
    assert figure.holds, figure


def figures(nursery: Nursery) -> list[Figure]:
    """All of them at full size."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        found = [*tokens(folder), timing(folder, 10_000), strangers()]
        with serving() as (_, address):
            found += [paths(address), origins(address)]
        found += tls(folder)
        cert, key = folder / "cert.pem", folder / "key.pem"
        life = nursery.live("--tls-cert", cert, "--tls-key", key)
        found.append(handshakes(life, life.address, 1000, 256, 10.0))
        life.end()
    return found
