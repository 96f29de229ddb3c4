"""A hub that misbehaves at random: what is found is right, or an error says that it is not."""

import json
import random
import shutil
import time
from contextlib import suppress

import pytest
from fake_hub import Handler, body, cache, cut, right, saying, silence, status

from ffsplat import hub
from ffsplat.errors import FFSplatError

ROUTES = ("/revision/", "/tree/", "resolve", "^store", "resolve.*config", "^store.*model")
PLACES = (
    "/again",
    "http://",
    "ftp://host/x",
    "//",
    "http://[::1",
    "file:///etc/passwd",
    "\x7f",
    "",
)


def odd_json(draw: random.Random, depth: int = 3):
    """JSON of a hub's vocabulary without its grammar."""
    kind = draw.randrange(6 if depth else 4)
    if kind == 4:
        return [odd_json(draw, depth - 1) for _ in range(draw.randrange(4))]
    if kind == 5:
        keys = draw.sample(["sha", "type", "path", "size", "oid", "lfs", "id"], 4)
        return {key: odd_json(draw, depth - 1) for key in keys}
    words = ["file", "config.json", "model.safetensors", "../x", "0" * 40, "0" * 64, "", "\0"]
    return [draw.choice(words), draw.randrange(-5, 10**20), None, draw.random() < 0.5][kind]


def mixed_up(draw: random.Random):
    """Bytes changed, doubled or dropped somewhere."""

    def change(content: bytes) -> bytes:
        at = draw.randrange(len(content))
        piece = draw.choice([b"", b"\1", draw.randbytes(9), content[:at]])
        return content[:at] + piece + content[at + draw.randrange(3) :]

    return change


def wrong_range(handler: Handler) -> bool:
    """Whatever was asked for, the part from another place."""
    handler.reply(b"x" * 100, 206, {"Content-Range": "bytes 7-106/107"})
    return True


def compressed(handler: Handler) -> bool:
    handler.reply(b"\x1f\x8b\x08garbage", 200, {"Content-Encoding": "gzip"})
    return True


def fault(draw: random.Random, route: str):
    codes = [204, 206, 304, 400, 404, 408, 410, 416, 418, 429, 451, 500, 503, 599]
    kinds = [
        lambda: status(draw.choice(codes), Retry_After=draw.choice(["0", "-1", "9" * 30, "soon"])),
        lambda: status(draw.choice([301, 302, 307]), Location=draw.choice(PLACES)),
        lambda: saying(draw.randbytes(draw.randrange(2000))),
        lambda: saying(json.dumps(odd_json(draw)).encode()),
        lambda: compressed,
        lambda: wrong_range,
        lambda: silence,
    ]
    if route.startswith("^store"):
        kinds += 3 * [lambda: cut(draw.randrange(30_000)), lambda: body(mixed_up(draw))]
        kinds += 2 * [lambda: body(mixed_up(draw), announce=False)]
    return draw.choice(kinds)()


@pytest.mark.parametrize("seed", range(40))
def test_what_a_confused_hub_gives_is_right_or_refused(published, folder, monkeypatch, seed):
    draw = random.Random(seed)
    for _ in range(draw.randrange(1, 4)):
        route = draw.choice(ROUTES)
        published.fail(route, fault(draw, route), times=draw.choice([1, 2, 10**9]))
    start = time.perf_counter()
    with monkeypatch.context() as impatient, suppress(FFSplatError):
        impatient.setattr("ffsplat.hub.download.PATIENCE", 0.2)
        impatient.setattr("ffsplat.hub.download.STALL", 0.25)
        assert right(hub.resolve("org/m"), folder)
    assert time.perf_counter() - start < 8
    try:
        assert right(hub.resolve("org/m", offline=True), folder)
    except FFSplatError:
        published.faults.clear()
        assert right(hub.resolve("org/m"), folder)
    shutil.rmtree(cache())
