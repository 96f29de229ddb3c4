"""Weights of OpenCLIP from a hub on this machine."""

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ffsplat.clip import PATIENCE, load_clip, weights_file
from ffsplat.errors import WeightsMissing
from tests.clip.toy import NAME


class Hub(BaseHTTPRequestHandler):
    """Serves one file as the hub does: any `resolve` address of it, for HEAD and GET."""

    content, asked, silent = b"", [], threading.Event()

    def do_GET(self):
        type(self).asked.append((self.command, self.path))
        found = self.path.endswith("resolve/main/open_clip_model.safetensors")
        body = self.content if found else b""
        self.send_response(200 if found else 404)
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("ETag", '"weights"')
        if not found:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(monkeypatch, tmp_path, weights):
    """A hub on this machine that has the weights of the tiny network."""
    Hub.content, Hub.asked = weights.read_bytes(), []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    point_at(monkeypatch, f"http://127.0.0.1:{server.server_port}", tmp_path / "cache")
    yield server
    server.shutdown()
    server.server_close()


def point_at(monkeypatch, endpoint: str, cache: Path) -> None:
    import huggingface_hub.constants as constants
    import huggingface_hub.file_download as download

    address = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address)
    monkeypatch.setattr(download, "HUGGINGFACE_CO_URL_TEMPLATE", address, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)


@pytest.fixture
def tag(monkeypatch):
    """The tiny network has published weights in a repository of the hub."""
    from open_clip import pretrained

    monkeypatch.setitem(pretrained._PRETRAINED, "tiny-clip", {"own": {"hf_hub": "org/tiny/"}})


def test_weights_come_from_the_hub_once(hub, tag, weights, no_pickles):
    path = weights_file("tiny-clip", "own")
    assert path.read_bytes() == weights.read_bytes()
    files = {name.rpartition("/")[2] for _, name in Hub.asked if "/resolve/" in name}
    assert files == {"open_clip_model.safetensors"}
    Hub.asked.clear()
    assert weights_file("tiny-clip", "own") == path
    assert load_clip(NAME, offline=True).weights == path
    assert Hub.asked == []


def test_a_repository_with_pickles_alone_is_refused(hub, tag, monkeypatch, no_pickles):
    from open_clip import pretrained

    monkeypatch.setitem(pretrained._PRETRAINED, "tiny-clip", {"own": {"hf_hub": "org/t/old.bin"}})
    with pytest.raises(WeightsMissing, match=r"old\.safetensors of org/t is not to be had"):
        weights_file("tiny-clip", "own")
    assert not [name for _, name in Hub.asked if "bin" in name]


def test_offline_asks_nobody(hub, tag):
    with pytest.raises(WeightsMissing, match="not in the local cache"):
        load_clip(NAME, offline=True)
    assert Hub.asked == []


def test_a_dead_hub_costs_three_seconds(monkeypatch, tmp_path, tag):
    assert PATIENCE == 3.0
    monkeypatch.setattr("ffsplat.clip.published.PATIENCE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as mute:  # accepts, and never answers
        point_at(monkeypatch, f"http://127.0.0.1:{mute.getsockname()[1]}", tmp_path)
        start = time.perf_counter()
        with pytest.raises(WeightsMissing, match="org/tiny is not to be had"):
            load_clip(NAME)
        assert time.perf_counter() - start < 2
