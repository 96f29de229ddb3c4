"""A hub on this machine: huggingface.co's routes, and a store at another address; both misbehave.

Models are folders. Safetensors are redirected to the store with the digest in X-Linked-Etag, as
large files are; other files come from the hub itself. `faults` say what happens to which requests.
"""

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub.constants as constants
import pytest

from ffsplat import hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NEXT_COMMIT = "89abcdef0123456789abcdef0123456789abcdef"

Fault = Callable[["Handler"], bool]
"""Answers a request in its own way and returns True, or returns False to let it be answered."""


@dataclass
class Asked:
    """A request that came."""

    method: str
    host: str
    path: str
    range: str | None
    token: str | None


@dataclass
class FakeHub:
    """Models by name, each a folder; what was asked; what goes wrong."""

    models: dict[str, Path]
    commit: str = COMMIT
    token: str | None = None
    """Where one is set, models are private."""
    faults: list[tuple[str, Fault]] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    commits: list[dict] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self):
        self.servers = {name: Server(self, name) for name in ("hub", "store")}
        for server in self.servers.values():
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return self.servers["hub"].url

    @property
    def paths(self) -> list[str]:
        return [one.path for one in self.asked]

    def fail(self, pattern: str, fault: Fault, times: int = 10**9) -> None:
        """Let a fault happen to requests whose path matches, so many times."""
        left = [times]

        def limited(handler: "Handler") -> bool:
            if left[0] == 0:
                return False
            left[0] -= 1
            return fault(handler)

        self.faults.append((pattern, limited))

    def close(self) -> None:
        self.ended.set()
        for server in self.servers.values():
            server.shutdown()
            server.server_close()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, hub: FakeHub, name: str):
        super().__init__(("127.0.0.1", 0), Handler)
        self.hub, self.name = hub, name
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        pass


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def answer(self):
        self.hub = self.server.hub
        path = self.path.partition("?")[0]
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length)
        token, part = self.headers.get("Authorization"), self.headers.get("Range")
        self.hub.asked.append(Asked(self.command, self.server.name, path, part, token))
        for pattern, fault in self.hub.faults:
            if re.search(pattern, f"{self.server.name}:{path}") and fault(self):
                return
        if self.server.name == "store":
            self.content(Path("/") / path.removeprefix("/store"))
        elif self.command == "PUT" or re.search("/repos/create|/preupload/|/commit/|/lfs/", path):
            self.upload(path)
        elif path == "/api/validate-yaml":
            self.json({"errors": [], "warnings": []})
        elif not self.route(path):
            self.reply(b"{}", 404, {"X-Error-Code": "RepoNotFound"})

    do_GET = do_HEAD = do_POST = do_PUT = answer

    def route(self, path: str) -> bool:
        """Answer what concerns one model; False if there is none of that name."""
        match = re.match(r"(/api/models)?/(\w[\w.-]*/[\w.-]+)/(\w+)(?:/([^/]+)(?:/(.+))?)?$", path)
        folder = self.hub.models.get(match[2]) if match else None
        private = self.hub.token and self.headers.get("Authorization") != f"Bearer {self.hub.token}"
        if not match or folder is None or private:
            return False
        api, _, what, revision, name = match.groups()
        if revision not in ("main", "v1", self.hub.commit):
            self.reply(b"{}", 404, {"X-Error-Code": "RevisionNotFound"})
        elif api and what == "revision":
            self.json({"id": match[2], "sha": self.hub.commit, "siblings": []})
        elif api and what == "tree":
            self.json([entry(file) for file in sorted(folder.iterdir())])
        elif what == "resolve" and (folder / str(name)).is_file():
            self.resolve(folder / str(name))
        else:
            self.reply(b"{}", 404, {"X-Error-Code": "EntryNotFound"})
        return True

    def resolve(self, file: Path) -> None:
        commit = {"X-Repo-Commit": self.hub.commit}
        if file.suffix != ".safetensors":
            return self.content(file, commit | {"ETag": f'"{git_sha1(file)}"'})
        linked = {
            "X-Linked-Etag": f'"{sha256(file)}"',
            "X-Linked-Size": str(file.stat().st_size),
            "Location": f"{self.hub.servers['store'].url}/store{file}",
        }
        return self.reply(b"", 302, commit | linked)

    def content(self, file: Path, headers: dict[str, str] | None = None) -> None:
        content, status, headers = file.read_bytes(), 200, headers or {}
        if match := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or ""):
            start, status = int(match[1]), 206
            headers = headers | {
                "Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"
            }
            content = content[start:]
        self.reply(content, status, headers)

    def upload(self, path: str) -> None:
        """The routes of a commit: create, preupload, LFS batch, PUT, commit."""
        if path == "/api/repos/create":
            name = json.loads(self.body)
            self.json({"url": f"{self.hub.url}/{name.get('organization') or 'me'}/{name['name']}"})
        elif "/preupload/" in path:
            files = json.loads(self.body)["files"]
            large = {True: "lfs", False: "regular"}
            self.json({"files": [
                {"path": f["path"], "uploadMode": large[f["path"].endswith(".safetensors")],
                 "shouldIgnore": False, "oid": None} for f in files
            ]})  # fmt: skip
        elif path.endswith(".git/info/lfs/objects/batch"):
            self.json({"transfer": "basic", "objects": [
                {"oid": one["oid"], "size": one["size"], "authenticated": True, "actions":
                 {"upload": {"href": f"{self.hub.url}/lfs/{one['oid']}", "header": {}}}}
                for one in json.loads(self.body)["objects"]
            ]})  # fmt: skip
        elif self.command == "PUT":
            assert hashlib.sha256(self.body).hexdigest() == path.rpartition("/")[2]
            self.hub.commits.append({"lfs": self.body})
            self.reply(b"")
        else:
            lines = [json.loads(line) for line in self.body.splitlines()]
            self.hub.commits.append({"path": path, "lines": lines})
            url = f"https://huggingface.co/org/mine/commit/{COMMIT}"
            self.json({"commitUrl": url, "commitOid": COMMIT})

    def json(self, value) -> None:
        self.reply(json.dumps(value).encode(), 200, {"Content-Type": "application/json"})

    def reply(self, content: bytes, status: int = 200, headers: dict[str, str] | None = None):
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(content))} | (headers or {})).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format, *args):
        pass


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def git_sha1(file: Path) -> str:
    content = file.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def entry(file: Path) -> dict:
    """A file as the hub's tree lists it."""
    size = file.stat().st_size
    listed = {"type": "file", "path": file.name, "size": size, "oid": git_sha1(file)}
    if file.suffix == ".safetensors":
        listed["lfs"] = {"oid": sha256(file), "size": size, "pointerSize": 134}
    return listed


def silence(handler: Handler) -> bool:
    """Never answer: a black hole."""
    handler.hub.ended.wait()
    handler.close_connection = True
    return True


def trickle(handler: Handler) -> bool:
    """Answer with a byte every tenth of a second, within every timeout of a read."""
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    while not handler.hub.ended.is_set():
        try:
            handler.wfile.write(b" ")
        except OSError:
            break
        time.sleep(0.1)
    handler.close_connection = True
    return True


def status(code: int, **headers: str) -> Fault:
    """Answer with an error."""

    def fault(handler: Handler) -> bool:
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        handler.reply(b'{"error": "no"}', code, named)
        return True

    return fault


def saying(content: bytes) -> Fault:
    """Answer with this content."""

    def fault(handler: Handler) -> bool:
        handler.reply(content)
        return True

    return fault


def cut(after: int) -> Fault:
    """Announce the whole file, or the rest of it, and break off after so many bytes."""

    def fault(handler: Handler) -> bool:
        file = Path(handler.path.removeprefix("/store"))
        content = file.read_bytes()
        start = int(re.sub(r"\D", "", handler.headers.get("Range") or "0"))
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(content) - start))
        handler.end_headers()
        handler.wfile.write(content[start : start + after])
        handler.close_connection = True
        return True

    return fault


def body(change: Callable[[bytes], bytes], announce: bool = True) -> Fault:
    """Serve other bytes than the file's; without `announce`, of unknown length."""

    def fault(handler: Handler) -> bool:
        content = change(Path(handler.path.removeprefix("/store")).read_bytes())
        handler.send_response(200)
        if announce:
            handler.send_header("Content-Length", str(len(content)))
        else:
            handler.send_header("Connection", "close")
            handler.close_connection = True
        handler.end_headers()
        handler.wfile.write(content)
        return True

    return fault


@pytest.fixture
def fake_hub(tmp_path, monkeypatch):
    """A hub without models, to which huggingface_hub is directed, with an empty cache."""
    hub = FakeHub({})
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("ffsplat.hub.transfer.PAUSE", 0.02)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    yield hub
    hub.close()


@pytest.fixture
def impatient(monkeypatch):
    """Give up sooner than users would."""
    monkeypatch.setattr("ffsplat.hub.download.PATIENCE", 0.6)
    monkeypatch.setattr("ffsplat.hub.download.STALL", 0.8)


def cache() -> Path:
    return Path(constants.HF_HUB_CACHE)


def blobs() -> dict[str, bytes]:
    """Contents in the cache by their name."""
    return {file.name: file.read_bytes() for file in cache().glob("models--*/blobs/*")}


def right(found: hub.ModelFolder, folder: Path) -> bool:
    """Whether what was found has the content of the model's files, and no others."""
    ours = {file.name: file.read_bytes() for file in found.path.iterdir()}
    return ours == {name: (folder / name).read_bytes() for name in hub.FILES}


def nothing_broken_in_the_cache() -> bool:
    return not any("incomplete" in name for name in blobs())


def decoded(commit: dict) -> dict[str, bytes]:
    """The small files of a commit that was uploaded."""
    values = [line["value"] for line in commit["lines"] if line["key"] == "file"]
    return {value["path"]: base64.b64decode(value["content"]) for value in values}
