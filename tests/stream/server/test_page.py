"""The page in a real browser, in front of a real server, engine and mapper."""

import contextlib
import hashlib
import re
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ffsplat.stream.delta import MapDelta
from ffsplat.stream.engine.engine import Engine, EngineSettings
from ffsplat.stream.frame import Frame
from ffsplat.stream.mapper import Mapper
from ffsplat.stream.protocol.blocks import encode_delta
from ffsplat.stream.protocol.tensors import read_tensors
from ffsplat.stream.replica.replica import Replica
from ffsplat.stream.server import routes
from ffsplat.stream.server.serve import Address, ServerThread
from ffsplat.stream.server.settings import ServerSettings
from ffsplat.stream.settings import MapperSettings
from ffsplat.types import Cameras
from tests.stream.server.browser import PATIENCE, Page
from tests.stream.server.standin import StandIn, make_delta
from tests.stream.server.talk import ask
from tests.stream.stub import StubPredictor
from tests.walks import preview_walk as walk

PAGE = Path(routes.__file__).with_name("page")
SETTINGS = MapperSettings(max_splats=60_000, max_keyframes=40, max_submaps=30, max_frames=1000)
GROUND = np.array([14, 16, 20])


@pytest.fixture(scope="module")
def tab(chromium) -> Iterator[Page]:
    with chromium.tab() as page:
        yield page
        assert page.problems == []


class Running:
    """A mapper of a walk, and a server that may go and come back at the same port."""

    def __init__(self, **options):
        mapper = Mapper(StubPredictor(walk().places, resolution=64), SETTINGS)
        self.engine = Engine(mapper, EngineSettings(drop="block", publish_s=0.0))
        self.engine.start()
        self.replica, self.last = Replica(), 0
        self.engine.subscribe(self._note)
        self.server = ServerThread(self.engine, self.replica, settings(**options))
        self.address: Address = self.server.start()

    def show(self, start: int, stop: int, step: int = 3) -> None:
        """Map some frames of the walk."""
        for frame in walk().frames(start, stop, step):
            self.engine.offer(Frame(frame.image, frame.time_ns, frame.number))
        assert self.engine.flush(PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while self.replica.number < self.last:  # it is applied in a thread of the server
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def _note(self, delta: MapDelta) -> None:
        self.last = delta.number


def settings(**options) -> ServerSettings:
    return ServerSettings(**{"port": 0, "drain": 1.0, **options})


@contextlib.contextmanager
def running(**options) -> Iterator[Running]:
    one = Running(**options)
    try:
        yield one
    finally:
        one.server.stop()


def follow(tab: Page, replica: Replica) -> None:
    """Wait until the page has the map up to its last delta."""
    tab.wait(f"ffsplat.replica.number === {replica.number}")


def digests(replica: Replica) -> dict[str, str]:
    """What the page says of its own copy, of ours: SHA-256 of each array of a snapshot."""
    document = b"".join(part[12:] for part in encode_delta(replica.snapshot()))
    arrays = read_tensors(document)
    return {name: hashlib.sha256(one.tobytes()).hexdigest() for name, one in arrays.items()}


def painted(picture: np.ndarray) -> float:
    """The share of a picture that is not ground."""
    return float((np.abs(picture - GROUND).sum(2) > 24).mean())


def golden(picture: np.ndarray) -> float:
    """The share of pixels in the colour of what was found."""
    red, green, blue = picture.transpose(2, 0, 1)
    return float(((red > 150) & (green > 90) & (green < 200) & (blue < 80)).mean())


def test_the_map_appears_is_asked_and_is_the_same_to_the_byte(tab: Page, tmp_path: Path):
    with running() as one:
        tab.open(one.address.page)
        tab.wait("document.body.dataset.state === 'live'")
        one.show(0, 45)
        follow(tab, one.replica)
        assert tab.get("ffsplat.digests()") == digests(one.replica)
        count = f"{len(one.replica):,}"
        assert tab.get("document.getElementById('splats').textContent") == count
        tab.wait("/^[0-9]+ ms$/.test(document.getElementById('latency').textContent)")

        tab.settle()
        map_alone = tab.picture(tmp_path / "map.png")
        assert painted(map_alone) > 0.6
        assert golden(map_alone) < 0.02

        tab.type("#text", "bed")
        tab.wait("document.querySelectorAll('#hits button').length > 0")
        tab.settle()
        asked = tab.picture(tmp_path / "asked.png")
        found = tab.get("[...document.querySelectorAll('#hits span')].map((e) => e.textContent)")
        counts = tab.get("[...document.querySelectorAll('#hits small')].map((e) => e.textContent)")
        numbers = re.findall(r"· ([\d,]+)", " ".join(counts))
        expected = [int(number.replace(",", "")) for number in numbers]
        assert set(found) == {"bed"}
        assert tab.get("ffsplat.marks.count") == sum(expected)
        assert (np.abs(asked - map_alone).sum(2) > 60).mean() > 0.3

        tab.click("#hits button")
        tab.settle()
        assert golden(tab.picture(tmp_path / "bed.png")) > golden(asked)
        assert golden(tab.picture()) > 0.05

        tab.type("#text", "chxir")
        tab.wait("document.getElementById('message').textContent.includes('chair')")
        assert tab.get("document.querySelectorAll('#hits button').length") == 0
        tab.settle()
        assert golden(tab.picture()) < 0.02


def bare(tab: Page) -> np.ndarray:
    """The map alone, without words and lines."""
    parts = "document.querySelectorAll('header, nav, footer')"
    tab.get(f"{parts}.forEach((part) => (part.style.visibility = 'hidden'))")
    tab.get("ffsplat.view.lines.show([], null, 1); ffsplat.view.invalidate()")
    tab.settle()
    return tab.picture()


def drawn(tab: Page, replica: Replica) -> np.ndarray:
    """What our own renderer makes of the map from where the page looks."""
    width, height = tab.get("[innerWidth, innerHeight]")
    camera_from_world = np.array(tab.get("[...ffsplat.view.camera.rows(), [0, 0, 0, 1]]"))
    focal = 0.6 * max(width, height)
    intrinsics = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], np.float32)
    camera = Cameras(
        np.linalg.inv(camera_from_world).astype(np.float32)[None],
        intrinsics[None],
        np.array([[width, height]], np.int32),
        ("page",),
    )
    background = tuple(float(value) for value in GROUND / 255)
    return 255 * replica.scene().render(camera, background=background)[0].clip(0, 1)


def test_the_picture_is_that_of_our_renderer_also_when_submaps_have_moved(tab: Page):
    rng = np.random.default_rng(4)
    engine = StandIn()
    quaternion = np.array([0.9, 0.1, -0.3, 0.3]) / np.linalg.norm([0.9, 0.1, -0.3, 0.3])
    moved = np.array([[1.4, *quaternion, 0.2, -0.1, 0.5]])
    with ServerThread(engine, replica := Replica(), settings()) as server:
        assert server.address is not None
        tab.open(server.address.page)
        first = make_delta(1, splats=300)
        shapes = replace(
            first.splats,
            scales=rng.uniform(0.01, 0.3, (300, 3)).astype(np.float16),
            quaternions_wxyz=rng.integers(-127, 128, (300, 4)).astype(np.int8),
            opacities=rng.integers(0, 256, 300).astype(np.uint8),
        )
        turned = make_delta(2, splats=0)
        nothing = replace(
            turned, epoch=1, removed=first.removed, submaps=np.zeros(1, np.uint16),
            submap_poses=moved,
        )  # fmt: skip
        for delta in (replace(first, splats=shapes), nothing):
            engine.publish_delta(delta)
            tab.wait(f"ffsplat.replica.number === {delta.number}")
            tab.get("ffsplat.view.overview()")
            tab.settle()
            found, expected = bare(tab), drawn(tab, replica)
            error = np.square(found - expected).mean() / 255**2
            assert painted(found) > 0.1
            assert -10 * np.log10(error) > 38
        assert tab.get("ffsplat.replica.epoch") == 1
        assert tab.get("ffsplat.replica.count") == 300


def test_a_late_page_has_the_same_map_and_goes_on(tab: Page):
    with running() as one:
        one.show(0, 30)
        tab.open(one.address.page)
        follow(tab, one.replica)
        assert tab.get("ffsplat.replica.count") == len(one.replica) > 0
        one.show(30, 60)
        follow(tab, one.replica)
        assert tab.get("ffsplat.digests()") == digests(one.replica)


def test_after_a_cut_the_page_goes_on_where_it_was(tab: Page):
    with running() as one:
        one.show(0, 30)
        tab.open(one.address.page)
        follow(tab, one.replica)
        tab.get("window.cleared = 0; const clear = ffsplat.replica.clear;"
                "ffsplat.replica.clear = function () { cleared++; clear.call(this); }")  # fmt: skip
        tab.get("ffsplat.connection.cut()")
        one.show(30, 45)
        follow(tab, one.replica)
        tab.wait("document.body.dataset.state === 'live'")
        assert tab.get("cleared") == 0
        assert tab.get("ffsplat.digests()") == digests(one.replica)


def test_another_server_at_the_same_place_has_another_map(tab: Page):
    with running() as one:
        one.show(0, 30)
        tab.open(one.address.page)
        follow(tab, one.replica)
    tab.wait("document.body.dataset.state === 'waiting'")
    assert tab.get("ffsplat.replica.count") == len(one.replica)  # what is known stays in sight
    with running(port=one.address.port) as other:
        other.show(90, 105)
        follow(tab, other.replica)
        tab.wait("document.body.dataset.state === 'live'")
        assert tab.get("ffsplat.digests()") == digests(other.replica)


def test_a_token_is_asked_for_and_kept_for_the_session_alone(tab: Page, tmp_path: Path):
    token = "a-token-of-many-letters"
    (tmp_path / "tokens").write_text(token)
    with running(token_file=tmp_path / "tokens") as one:
        tab.open(one.address.page)
        tab.wait("document.body.dataset.state === 'token'")
        tab.type("#token", "wrong-" + token)
        tab.wait("ffsplat.states.filter((state) => state === 'token').length === 2")
        tab.type("#token", token)
        tab.wait("document.body.dataset.state === 'live'")
        assert tab.get("localStorage.length") == 0
        assert tab.get("document.cookie") == ""
        assert token not in tab.get("location.href + document.documentElement.outerHTML")
        tab.open(one.address.page)
        tab.wait("document.body.dataset.state === 'live'")
        tab.get("sessionStorage.clear()")


def test_mouse_keys_and_fingers_move_the_view_and_let_go_of_the_camera(tab: Page):
    with running() as one:
        one.show(0, 15)
        tab.open(one.address.page)
        follow(tab, one.replica)
        tab.settle()
        pressed = "document.getElementById('follow').getAttribute('aria-pressed')"
        before = tab.picture()
        assert tab.get(pressed) == "true"
        tab.drag([(300, 200), (340, 210), (380, 215)])
        tab.settle()
        turned = tab.picture()
        assert tab.get(pressed) == "false"
        assert (np.abs(turned - before).sum(2) > 60).mean() > 0.1
        yaw, distance = tab.get("[ffsplat.view.camera.yaw, ffsplat.view.camera.distance]")
        tab.get("document.getElementById('view').focus()")
        for key in ("ArrowRight", "+"):
            tab.call("Input.dispatchKeyEvent", type="keyDown", key=key, text=key[:1])
        assert tab.get("ffsplat.view.camera.yaw") > yaw
        assert tab.get("ffsplat.view.camera.distance") < distance
        fingers = [
            [{"x": 320 + side * apart, "y": 200, "id": side} for side in (0, 1)]
            for apart in (40, 60, 80)
        ]
        for kind, points in zip(("touchStart", "touchMove", "touchMove"), fingers, strict=True):
            tab.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)
        tab.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
        tab.wait(f"ffsplat.view.camera.distance < {0.7 * distance}")
        tab.click("#follow")
        tab.settle()
        assert (np.abs(tab.picture() - before).sum(2) > 60).mean() < 0.02


def test_a_narrow_window_shows_all_of_it(tab: Page, tmp_path: Path):
    with running() as one:
        one.show(0, 15)
        tab.open(one.address.page, 360, 640)
        follow(tab, one.replica)
        tab.type("#text", "wall")
        tab.wait("document.querySelectorAll('#hits button').length > 0")
        tab.settle()
        tab.picture(tmp_path / "narrow.png")
        boxes = tab.get(
            "[...document.querySelectorAll('input, button, dd')].filter((e) => e.offsetParent)"
            ".map((e) => e.getBoundingClientRect()).map((b) => [b.left, b.right, b.top, b.bottom])"
        )
        left, right, top, bottom = np.array(boxes).T
        assert left.min() >= 0
        assert right.max() <= 360
        assert top.min() >= 0
        assert bottom.max() <= 640
        assert tab.get("document.documentElement.scrollWidth") <= 360
        edge = "document.querySelector('{}').getBoundingClientRect().{}"
        assert tab.get(f"{edge.format('nav', 'bottom')} <= {edge.format('footer', 'top')}")


def test_a_compressed_payload_that_ends_early_or_late_is_refused_by_the_browser(tab: Page):
    payload = encode_delta(make_delta(1))[0]
    stream = zlib.compress(payload)
    codes = []
    with running() as one:
        tab.open(one.address.page)
        for sent in (stream, stream + b"more", stream[:-1], stream[:-1] + b"x"):
            body = struct.pack("<I", len(payload)) + sent
            head = (b"FFS1", 2, 1, 0, 1, 1_000_000, len(body), zlib.crc32(body))
            data = (struct.pack("<4sBBHQqII", *head) + body).hex()
            codes.append(
                tab.get(
                    "import('/wire.js').then((wire) => wire.unpack(Uint8Array.from("
                    f"'{data}'.match(/../g), (pair) => parseInt(pair, 16)).buffer))"
                    ".then((message) => message.payload.length, (error) => error.code)"
                )
            )
    assert codes == [len(payload), 4400, 4400, 4400]


def test_every_script_is_served_and_short():
    names = {path.name for path in PAGE.iterdir() if path.is_file()}
    assert names == set(routes.PAGE.values())
    for path in PAGE.iterdir():
        assert len(path.read_text("utf-8").splitlines()) < 300, path.name
    html = (PAGE / "index.html").read_text("utf-8")
    assert not re.search(r"https?://|<script>|<style|\son\w+=|style=", html)


def test_scripts_come_with_their_type(tmp_path: Path):
    with running() as one:
        for path, name in routes.PAGE.items():
            status, found = ask(one.address, path)
            assert status == 200
            assert f"Content-Type: {routes.TYPES['.' + name.rsplit('.')[-1]]}".encode() in found
