"""A scene as one page, opened from a file by a real browser."""

import base64
import gzip
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from small_room import small_room

from ffsplat.errors import OutputError, UnknownWord, UsageError
from ffsplat.page import snapshot
from ffsplat.page.snapshot import snapshot_of
from ffsplat.page.write import answer, page, write
from ffsplat.query import query
from ffsplat.query.options import texts_of
from ffsplat.stream.protocol.document import read_document
from ffsplat.types import Cameras, Scene


def cameras() -> Cameras:
    """One at the origin that sees all, and one far to the left that looks along x."""
    poses = np.tile(np.eye(4, dtype=np.float32), (2, 1, 1))
    poses[1, :3, :3] = [[0, 0, 1], [0, 1, 0], [-1, 0, 0]]
    poses[1, :3, 3] = [-3, 0, 2]
    lens = np.tile(np.array([[300, 0, 320], [0, 300, 240], [0, 0, 1]], np.float32), (2, 1, 1))
    return Cameras(poses, lens, np.full((2, 2), (640, 480), np.int32), ("a.jpg", "b.jpg"))


@pytest.fixture(scope="module")
def scene() -> Scene:
    return replace(small_room(), cameras=cameras())


@pytest.fixture(scope="module")
def shown(scene, chromium, tmp_path_factory):
    """The page of the room in a browser, and its text."""
    folder = tmp_path_factory.mktemp("page")
    write(scene, folder / "<script>room.html", queries="table; sofa; lamp")
    with chromium.tab() as tab:
        tab.open((folder / "<script>room.html").as_uri(), 800, 500)
        yield tab


def element(text: str, name: str) -> str:
    return re.search(rf'<script [^>]*id="{name}">(.*?)</script>', text, re.S)[1]


def test_the_gaussians_in_the_page_are_those_of_the_scene(scene, tmp_path):
    write(scene, tmp_path / "a.html", queries="sofa")
    text = (tmp_path / "a.html").read_text()
    delta = read_document(gzip.decompress(base64.b64decode(element(text, "scene"))))
    splats, gaussians = delta.splats, scene.gaussians
    np.testing.assert_array_equal(splats.means, gaussians.means)
    np.testing.assert_allclose(splats.scales, gaussians.scales, rtol=1e-3)
    np.testing.assert_allclose(splats.quaternions_wxyz / 127, gaussians.quaternions_wxyz, atol=4e-3)
    np.testing.assert_allclose(splats.opacities / 255, gaussians.opacities, atol=0.002)
    np.testing.assert_allclose(splats.colors / 255, gaussians.colors, atol=0.002)
    np.testing.assert_array_equal(splats.ids, scene.codes.ids)
    np.testing.assert_array_equal(splats.instances, scene.instances)
    assert delta.codebook.names == scene.codebook.names
    (answer,) = json.loads(element(text, "answers"))
    bits = np.frombuffer(gzip.decompress(base64.b64decode(answer["marks"])), np.uint8)
    marked = np.flatnonzero(np.unpackbits(bits, bitorder="little"))
    np.testing.assert_array_equal(marked, np.sort(query(scene, "sofa").hits[0].rows))


@pytest.mark.parametrize(
    ("queries", "texts"),
    [
        ("chair,desk ,", ["chair", "desk"]),
        ("red chair", ["red chair"]),
        ("a chair, not a stool; desk", ["a chair, not a stool", "desk"]),
        (" ; ", []),
    ],
)
def test_semicolons_or_else_commas_stand_between_queries(queries, texts):
    assert texts_of(queries) == texts


def test_no_text_ends_its_script(scene):
    evil = "</script><script>window.broken = 1</script>{{scene}}"
    text = page(scene, evil, [answer("sofa", query(scene, "sofa")) | {"text": evil}])
    assert json.loads(element(text, "answers"))[0]["text"] == evil
    assert text.count("window.broken") > 1
    assert "<script>window" not in text
    assert text.count("</script>") == text.count("<script")


def test_cameras_stand_in_reverse(scene):
    frames = snapshot_of(scene).frames
    np.testing.assert_allclose(frames.poses[1], [1, 0, 0, 0, 0, 0, 0], atol=1e-7)
    np.testing.assert_allclose(frames.poses[0, 4:], [-3, 0, 2])
    np.testing.assert_allclose(frames.intrinsics[0], [300, 300, 320, 240, 640, 480])


def test_the_same_scene_gives_the_same_page(scene, tmp_path):
    write(scene, tmp_path / "a.html")
    before = (tmp_path / "a.html").read_bytes()
    write(scene, tmp_path / "a.html", overwrite=True)
    assert (tmp_path / "a.html").read_bytes() == before


def test_a_page_asks_for_nothing_from_anywhere(scene, tmp_path):
    write(scene, tmp_path / "a.html")
    text = (tmp_path / "a.html").read_text()
    assert not re.search(r"(src|href)=|https?://", text)
    scripts = re.findall(r"data:text/javascript;base64,([\w+/=]+)", text)
    code = "".join(base64.b64decode(script).decode() for script in scripts)
    assert not re.search(r"fetch\(|XMLHttpRequest|WebSocket\(|import\.meta|from \"\./", code)


@pytest.mark.parametrize(
    ("queries", "error"), [("zorgle", UnknownWord), (";".join(["sofa"] * 65), UsageError)]
)
def test_questions_that_cannot_be_answered_write_nothing(scene, tmp_path, queries, error):
    with pytest.raises(error):
        write(scene, tmp_path / "a.html", queries=queries)
    assert not list(tmp_path.iterdir())


def test_a_scene_without_codes_is_shown_without_questions(scene, tmp_path):
    write(replace(scene, codes=None, codebook=None), tmp_path / "a.html")
    assert json.loads(element((tmp_path / "a.html").read_text(), "answers")) == []


def test_more_gaussians_than_a_page_holds_are_refused(scene, tmp_path, monkeypatch):
    monkeypatch.setattr(snapshot, "MAX_SPLATS", 999)
    with pytest.raises(OutputError, match="1000 Gaussians"):
        write(scene, tmp_path / "a.html")


def test_gaussians_beyond_all_bounds_are_refused(scene, tmp_path):
    means = scene.gaussians.means.copy()
    means[3, 1] = 2e9
    far = replace(scene, gaussians=replace(scene.gaussians, means=means))
    with pytest.raises(OutputError, match="further away") as refused:
        write(far, tmp_path / "a.html")
    assert refused.value.hint
    assert not list(tmp_path.iterdir())


def test_a_browser_shows_the_scene_and_lights_up_what_is_asked(shown, tmp_path):
    shown.settle()
    plain = shown.picture(tmp_path / "plain.png")
    red, blue = (plain[..., 0] - plain[..., 2] > 60), (plain[..., 2] - plain[..., 0] > 60)
    assert min(red.sum(), blue.sum()) > 500
    assert red.nonzero()[1].mean() < blue.nonzero()[1].mean()  # the sofa is to the right
    shown.click("#questions button:nth-child(2)")
    shown.wait("document.querySelectorAll('#hits button').length === 1")
    shown.settle()
    lit = shown.picture(tmp_path / "sofa.png")
    assert shown.get("ffsplat.view.splats.marks.reduce((sum, mark) => sum + mark, 0)") == 200
    assert np.abs(lit - plain).sum(-1)[blue].mean() > 60
    shown.click("#questions button:nth-child(3)")
    shown.wait("document.getElementById('message').textContent === 'No lamp found.'")
    shown.click("#questions button:nth-child(3)")
    shown.wait("document.getElementById('message').textContent === ''")
    shown.settle()
    assert np.abs(shown.picture() - plain).max() < 20
    assert not shown.problems


def test_the_next_photo_is_seen_from_its_camera(shown, tmp_path):
    shown.click("#next")
    shown.wait("ffsplat.view.isSettled")
    shown.settle()
    shown.picture(tmp_path / "next.png")
    forward = shown.get("ffsplat.view.camera.axes().forward")
    np.testing.assert_allclose(forward, [1, 0, 0], atol=0.01)
    shown.click("#overview")
    shown.settle()
    assert (shown.picture(tmp_path / "overview.png").std(axis=-1) > 20).sum() > 200


def test_a_title_that_looks_like_html_is_text(shown):
    assert shown.get("document.title") == "<script>room"


def luminance(color: np.ndarray) -> float:
    """Relative luminance of sRGB in 0..255. Source: WCAG 2.2, 'relative luminance'."""
    shares = color / 255
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one: np.ndarray, other: np.ndarray) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_as_light_as_the_system_and_can_be_read(shown, scheme, tmp_path):
    """Words stand on a panel that lets a tenth of the scene through, which may be black or white.

    4.5 and, for what is no text, 3 are asked by WCAG 2.2, criteria 1.4.3 and 1.4.11.
    """
    feature = {"name": "prefers-color-scheme", "value": scheme}
    shown.call("Emulation.setEmulatedMedia", features=[feature])
    shown.settle()
    names = ("ground", "panel", "text", "faint", "accent", "hit", "bad")
    values = shown.get(
        f"{list(names)}.map((name) => getComputedStyle(document.documentElement)"
        ".getPropertyValue('--' + name).trim())"
    )
    colors = {
        name: np.array(list(bytes.fromhex(value[1:]))).astype(float)
        for name, value in zip(names, values, strict=True)
    }
    picture = shown.picture(tmp_path / f"{scheme}.png")
    assert np.abs(picture[250, 5] - colors["ground"]).max() <= 1  # where nothing is drawn
    assert (luminance(colors["ground"]) > 0.5) == (scheme == "light")
    share = colors["panel"][3] / 255
    for behind in (0, 255):
        panel = share * colors["panel"][:3] + (1 - share) * behind
        for name in ("text", "faint", "accent", "bad"):
            assert contrast(colors[name], panel) >= 4.5, (name, behind)
        assert contrast(colors["hit"], panel) >= 3
