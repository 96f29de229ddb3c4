"""Where shards may be read from, and what comes over a network is checked first."""

import http.server
import os
import ssl
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest

from data.shards import Cache, ShardDataset, ShardError, verify_shards
from data.shards import cache as cache_module
from data.shards.cache import open_folder
from data.shards.opener import download, parse_address
from ffsplat.errors import FFSplatError, UsageError


@pytest.mark.parametrize(
    "address",
    ["pipe:touch {}", "PIPE:touch {}", "pipe:touch {} #.tar", " pipe:touch {}", "-pipe:touch {}",
     "http://localhost/x", "ftp://h/x", "file:-x", "file:x", "file://host/x", "file:///x%0ay", "file:///x%00",
     "simplecache::s3://b/k", "zip://x::file:///y", "s3:b/k", "s3:///k", "https:/h/x", "https://",
     "https://user:word@h/x", "https://h/x?token=1", "https://h/x#y", "https://h\\x", "gopher://h", "ssh://h/x",
     "javascript:1", "c:\\x", "a\nb", "a\0b", "", "local://x", "github://x", "memory:x",
     "data:text/plain,x"],
)  # fmt: skip
def test_other_addresses_are_refused(tmp_path, monkeypatch, address):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FFSplatError) as caught:
        ShardDataset(address.format("made"), Cache(tmp_path / "cache"))
    assert isinstance(caught.value, UsageError) or "cannot read" in str(caught.value)
    assert not Path("made").exists()


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("/a/b", Path("/a/b")),
        ("a b/-c", Path("a b/-c")),
        ("/a/index.json", Path("/a")),
        ("file:///a/b%20c/index.json", Path("/a/b c")),
        ("https://h:8/a/b/", "https://h:8/a/b"),
        ("HTTPS://h/a/index.json", "https://h/a"),
        ("s3://bucket/k", "s3://bucket/k"),
        ("hf://datasets/org/name@main/k", "hf://datasets/org/name@main/k"),
    ],
)
def test_addresses_are_understood(address, place):
    assert parse_address(address) == place


@pytest.fixture
def memory(shards):
    """The shards, in the memory file system of fsspec too."""
    files = fsspec.filesystem("memory")
    for path in shards.iterdir():
        files.pipe_file(f"/set/{path.name}", path.read_bytes())
    yield files
    files.rm("/set", recursive=True)


def test_remote_shards_are_fetched_once_and_read_alike(shards, memory, tmp_path, same):
    cache = Cache(tmp_path / "cache")
    local, remote = ShardDataset(shards), ShardDataset("memory://set", cache)
    same(remote[0], local[0], depth=0)
    assert len(list(cache.folder.glob("*.tar"))) == 1, "other shards are left where they are"
    (shard,) = cache.folder.glob("*.tar")
    assert shard.stem == local.index.shards[0].sha256
    memory.rm("/set/test-000000.tar")
    same(remote[4], local[4], depth=0)
    memory.pipe_file("/set/test-000001.tar", (shards / "test-000000.tar").read_bytes())
    with pytest.raises(ShardError, match=r"memory://set/test-000001\.tar is not what its index"):
        remote[5]
    assert [verdict.fault is None for verdict in verify_shards("memory://set", cache)] == [
        True,
        False,
        True,
        True,
    ]


def test_what_is_fetched_is_checked_before_it_is_kept(shards, memory, tmp_path):
    cache = Cache(tmp_path / "cache")
    remote = ShardDataset("memory://set/index.json", cache)
    content = bytearray((shards / "test-000000.tar").read_bytes())
    content[700] ^= 1
    for bad, message in (
        (bytes(content), "its sha256 differs"),
        (bytes(content[:-512]), "its sha256 differs"),
        (bytes(content) * 3, f"is longer than {len(content)} bytes"),
    ):
        memory.pipe_file("/set/test-000000.tar", bad)
        with pytest.raises(ShardError, match=rf"memory://set/test-000000\.tar .*{message}"):
            remote[0]
        assert not [path for path in cache.folder.iterdir() if path.suffix != ".lock"]


def test_many_readers_fetch_a_shard_once(memory, tmp_path, monkeypatch):
    fetched = []

    def counting(address, limit):
        fetched.append(address)
        time.sleep(0.05)
        yield from download(address, limit)

    remote = ShardDataset("memory://set", Cache(tmp_path / "cache"))
    monkeypatch.setattr(cache_module, "download", counting)
    with ThreadPoolExecutor(4) as pool:
        keys = [clip.key for clip in pool.map(remote.__getitem__, range(4))]
    assert keys == [f"clip-{i:02d}" for i in range(4)]
    assert fetched == ["memory://set/test-000000.tar"]


def test_the_cache_keeps_within_its_limit(shards, memory, tmp_path, same):
    local = ShardDataset(shards)
    sizes = [shard.size for shard in local.index.shards]
    cache = Cache(tmp_path / "cache", max_bytes=max(sizes[0] + sizes[1], sizes[1] + sizes[2]))
    remote = ShardDataset("memory://set", cache)

    def kept():
        return {path.stem for path in cache.folder.glob("*.tar")}

    names = [shard.sha256 for shard in local.index.shards]
    remote[0], remote[5]
    assert kept() == {names[0], names[1]}
    for age, name in enumerate(names[:2]):
        os.utime(cache.folder / f"{name}.tar", (1000 + age, 1000 + age))
    remote[0]  # used again: now the other one is older
    remote[10]
    assert kept() == {names[0], names[2]}
    same(remote[5], local[5], depth=0)
    with pytest.raises(ShardError, match="more than the cache may hold"):
        ShardDataset("memory://set", Cache(tmp_path / "small", max_bytes=1000))[0]
    assert not (tmp_path / "small").exists()


def test_failures_of_a_remote_address_are_errors_of_ours(tmp_path, shards, memory):
    with pytest.raises(ShardError, match=r"cannot read memory://none/index\.json"):
        ShardDataset("memory://none", Cache(tmp_path))
    (tmp_path / "file").write_text("")
    with pytest.raises(ShardError, match="cannot use the cache"):
        ShardDataset("memory://set", Cache(tmp_path / "file" / "cache"))[0]
    for scheme in ("s3", "gs", "az"):
        if scheme not in fsspec.available_protocols() or _missing(scheme):
            with pytest.raises(ShardError, match=f"cannot read {scheme}://") as caught:
                open_folder(f"{scheme}://bucket/key", Cache(tmp_path)).index()
            assert caught.value.hint == "install that library"


def _missing(scheme: str) -> bool:
    try:
        fsspec.get_filesystem_class(scheme)
    except ImportError:
        return True
    return False


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; /away leads to the address that the server was told."""

    def do_GET(self):
        if not self.path.startswith("/away/"):
            return super().do_GET()
        self.send_response(302)
        self.send_header("Location", self.server.away + self.path.removeprefix("/away"))
        return self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def https(shards, tmp_path, monkeypatch):
    """The shards behind https on this machine, with a certificate of its own."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-nodes", "-days", "1", "-newkey", "ec"]
    command += ["-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key)]
    command += ["-out", str(certificate)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"openssl makes no certificate: {error}")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setenv("no_proxy", "localhost")
    server = http.server.ThreadingHTTPServer(
        ("localhost", 0), lambda *a, **k: _Handler(*a, directory=str(shards), **k)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def test_shards_are_read_over_https(https, shards, tmp_path, same):
    address = f"https://localhost:{https.server_port}"
    remote = ShardDataset(address, Cache(tmp_path / "cache"))
    same(remote[3], ShardDataset(shards)[3], depth=0)
    https.away = address
    assert len(ShardDataset(f"{address}/away", Cache(tmp_path / "cache"))) == 17, (
        "https may redirect"
    )
    with pytest.raises(ShardError, match=r"cannot read .*404"):
        ShardDataset(f"{address}/none", Cache(tmp_path / "cache"))
    with pytest.raises(ShardError, match="is longer than 100 bytes"):
        list(download(f"{address}/index.json", 100))


@pytest.mark.parametrize(
    "away", ["http://localhost:1", "ftp://localhost", "file://", "pipe:touch made #"]
)
def test_a_redirect_never_leaves_https(https, shards, tmp_path, away):
    https.away = away if away != "file://" else f"file://{shards}"
    with pytest.raises(ShardError, match=r"leads away from https|cannot read"):
        ShardDataset(f"https://localhost:{https.server_port}/away", Cache(tmp_path / "cache"))
    assert not Path("made").exists()


def test_an_unknown_certificate_is_refused(https, tmp_path, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(ShardError, match="certificate"):
        ShardDataset(f"https://localhost:{https.server_port}", Cache(tmp_path / "cache"))
