"""`ffsplat render`: what the pictures show, the formats, the cameras, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command import run
from PIL import Image
from small_room import small_room

from ffsplat.cli import pictures
from ffsplat.cli.render import _tile_of
from ffsplat.cli.viewpoints import camera_path
from ffsplat.errors import UsageError
from ffsplat.io import save_scene, write_cameras
from ffsplat.types import LEVELS, Cameras

SIZE = ("--size", "96x72")
TABLE = (48, 36)
"""Where the table is seen from the reference camera: at its optical axis."""


@pytest.fixture
def draw(scene_file, tmp_path):
    """Run `ffsplat render` into a PNG and read it."""

    def call(*arguments, scene=scene_file):
        out = tmp_path / "out.png"
        outcome = run("render", scene, "--out", out, "--overwrite", *SIZE, *arguments)
        assert outcome.code == 0, outcome.err
        with Image.open(out) as image:
            return np.asarray(image.convert("RGB")).astype(int)

    return call


@pytest.fixture
def cameras_file(tmp_path) -> Path:
    """Two cameras: one at the origin, one that looks straight at the sofa."""
    poses = np.tile(np.eye(4, dtype=np.float32), (2, 1, 1))
    poses[1, 0, 3] = 1
    intrinsics = np.array([[400, 0, 200], [0, 400, 100], [0, 0, 1]], np.float32)
    sizes = np.array([[400, 200], [400, 200]], np.int32)
    path = tmp_path / "cameras.json"
    small = np.ones((2, 16, 16), np.uint8)
    write_cameras(Cameras(poses, np.tile(intrinsics, (2, 1, 1)), sizes, ("a", "b"), small), path)
    return path


def at(image: np.ndarray, x: int, y: int) -> list[int]:
    return image[y, x].tolist()


def test_rgb_from_the_reference_view(draw):
    image = draw()
    assert image.shape == (72, 96, 3)
    red, green, blue = at(image, *TABLE)
    assert red > 180
    assert green < 60
    assert blue < 60
    assert at(image, 2, 2) == [0, 0, 0]


def test_opacity_is_white_where_something_is(draw):
    image = draw("--what", "opacity")
    assert min(at(image, *TABLE)) > 240
    assert at(image, 2, 2) == [0, 0, 0]


def test_near_is_brighter_than_far(draw):
    image = draw("--what", "depth").sum(-1)
    wall = image[36, 48 + 12]  # the wall is seen just to the right of the table
    assert image[36, 48] > wall > 0


def test_codes_have_a_legend_in_the_colours_of_the_image(draw):
    image = draw("--what", "codes")
    assert image.shape[0] == 72
    assert image.shape[1] > 96
    panel = image[:, 96:].reshape(-1, 3).tolist()
    assert at(image, *TABLE) in panel
    assert at(image, *TABLE) != at(image, 90, 36)
    assert at(image, 90, 36) in panel


def test_codes_of_parts_of_parts_can_be_drawn(draw, scene, tmp_path):
    levels = scene.codebook.levels.copy()
    levels[scene.codebook.names.index("sofa")] = LEVELS.index("subpart")
    save_scene(replace(scene, codebook=replace(scene.codebook, levels=levels)), tmp_path / "d.ply")
    image = draw("--what", "codes", "--level", "subpart", scene=tmp_path / "d.ply")
    assert at(image, *TABLE) == [64, 64, 64]  # it is no part of a part
    assert len(np.unique(image[:, :96].reshape(-1, 3), axis=0)) == 2


def test_instances_differ(draw):
    image = draw("--what", "instance")
    assert at(image, *TABLE) != at(image, 90, 36)
    assert at(image, 2, 2) == [64, 64, 64]


def test_a_query_is_hot_where_it_matches_and_grey_elsewhere(draw):
    table, sofa = draw("--query", "table"), draw("--what", "query", "--query", "sofa")
    assert np.ptp(at(table, *TABLE)) > 20
    assert np.ptp(at(table, 90, 36)) <= 2
    assert np.ptp(at(sofa, *TABLE)) <= 2
    assert np.ptp(at(sofa, 90, 36)) > 20


def test_an_input_camera_is_fitted_whole(draw, cameras_file):
    image = draw("--cameras", cameras_file, "--view", 1)
    blue = np.argwhere(image[..., 2] - image[..., 0] > 80)
    # 400 x 200 pixels at a scale of 0.24 in 96 x 72: the optical axis lands at (48, 36).
    np.testing.assert_allclose(blue.mean(0), [36, 48], atol=1)
    # The sofa is 0.4 wide at depth 2: 80 pixels of the input, 19 of this image, and some blur.
    assert 17 <= np.ptp(blue[:, 1]) + 1 <= 26


def test_a_new_place_sees_as_wide_as_most_photos(scene):
    lens = np.tile(np.array([[400, 0, 200], [0, 400, 100], [0, 0, 1]], np.float32), (3, 1, 1))
    lens[2, 0, 0] = 100
    poses = np.tile(np.eye(4, dtype=np.float32), (3, 1, 1))
    sizes = np.tile(np.array([[400, 200]], np.int32), (3, 1))
    seen = replace(scene, cameras=Cameras(poses, lens, sizes, ("a", "b", "c")))
    (camera,) = camera_path(seen, None, None, (96, 72)).intrinsics
    assert camera[0, 0] == pytest.approx(96 * 400 / 400)


def test_a_scene_of_unknown_make_is_seen_whole(draw, scene, tmp_path):
    foreign = tmp_path / "foreign.ply"
    save_scene(replace(scene, provenance={}), foreign, profile="plain")
    image = draw("--what", "opacity", scene=foreign)
    border = np.concatenate([image[[0, -1]].reshape(-1, 3), image[:, [0, -1]].reshape(-1, 3)])
    assert border.max() == 0
    assert image.max() > 200


def test_json_says_what_was_written(scene_file, tmp_path):
    out = tmp_path / "a.gif"
    outcome = run(
        "render", scene_file, "-o", out, "--query", "table", "--frames", 2, "--json", *SIZE
    )
    assert (outcome.code, outcome.err) == (0, "")
    assert json.loads(outcome.out) == {
        "file": str(out), "what": "query", "query": "table", "frames": 2
    }  # fmt: skip


@pytest.mark.parametrize("ending", ["webp", "gif"])
@pytest.mark.parametrize("what", ["rgb", "codes"])
def test_orbits(scene_file, tmp_path, ending, what):
    out = tmp_path / f"orbit.{ending}"
    outcome = run("render", scene_file, "-o", out, "--frames", 3, "--what", what, *SIZE)
    assert outcome.code == 0
    assert outcome.out == ""
    assert "3 frames" in outcome.err
    with Image.open(out) as image:
        assert image.n_frames == 3  # pyright: ignore[reportAttributeAccessIssue]
        assert image.height == 72
        assert image.info["loop"] == 0
        frames = []
        for index in range(3):
            image.seek(index)
            frames.append(np.asarray(image.convert("RGB")).astype(int))
    assert np.abs(frames[0] - frames[1]).max() > 50


def test_mp4(scene_file, tmp_path):
    av = pytest.importorskip("av")
    out = tmp_path / "orbit.mp4"
    assert run("render", scene_file, "-o", out, "--frames", 3, "--size", "97x73").code == 0
    with av.open(str(out)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert [frame.shape for frame in frames] == [(74, 98, 3)] * 3


def test_mp4_of_one_pixel(tmp_path):
    av = pytest.importorskip("av")
    pictures.save_picture(iter([np.full((1, 1, 3), 200, np.uint8)]), tmp_path / "a.mp4")
    with av.open(str(tmp_path / "a.mp4")) as container:
        (frame,) = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    np.testing.assert_allclose(frame, np.full((2, 2, 3), 200), atol=8)


def test_mp4_without_pyav_names_the_extra(scene_file, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    outcome = run("render", scene_file, "-o", tmp_path / "orbit.mp4")
    assert outcome.code == 2
    assert 'pip install "ffsplat[video]"' in outcome.err


def test_a_still_takes_one_frame_and_no_more(tmp_path):
    def frames():
        yield np.full((2, 3, 3), 7, np.uint8)
        pytest.fail("a second frame was drawn")

    pictures.save_picture(frames(), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert np.asarray(image).tolist() == [[[7, 7, 7]] * 3] * 2


def test_a_drawing_that_fails_leaves_nothing(tmp_path):
    def frames():
        yield np.zeros((2, 3, 3), np.uint8)
        raise UsageError("the second frame cannot be drawn")

    with pytest.raises(UsageError):
        pictures.save_picture(frames(), tmp_path / "a.webp")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ([], 2, "--sheet"),
        (["-o", "a.png", "--sheet", "b.png"], 2, "--sheet"),
        (["--sheet", "a.gif"], 2, "one image"),
        (["--sheet", "a.png", "--what", "depth"], 2, "everything"),
        (["--sheet", "a.png", "--view", "0"], 2, "everything"),
        (["--sheet", "a.png", "--photos", "."], 2, "--cameras"),
        (["--sheet", "a.png", *["--query", "sofa"] * 33], 2, "at most 32"),
        (["--sheet", "a.png", "--size", "8000x8000", "--columns", "16"], 2, "--columns fewer"),
        (["-o", "a.png", "--photos", "."], 2, "--sheet"),
        (["-o", "a.png", "--brief"], 2, "--sheet"),
        (["-o", "a.png", "--query", "sofa", "--query", "table"], 2, "one --query"),
        (["-o", "a.bmp"], 2, ".webp"),
        (["-o", "a.png", "--what", "query"], 2, "--query"),
        (["-o", "a.png", "--what", "rgb", "--query", "sofa"], 2, "--query"),
        (["-o", "a.png", "--query", "tabel"], 2, "table"),
        (["-o", "a.png", "--view", "0"], 2, "--cameras"),
        (["-o", "a.png", "--size", "640"], 2, "640x480"),
        (["-o", "a.png", "--size", "0x10"], 2, "640x480"),
        (["-o", "a.png", "--size", "9000x10"], 2, "8192"),
        (["-o", "a.webp", "--frames", "0"], 2, "--frames"),
        (["-o", "missing/a.png"], 5, "missing"),
        (["-o", "a.png", "--cameras", "none.json"], 1, "none.json"),
        (["-o", "a.png", "--backend", "gsplat"], 2, "gsplat"),
    ],
    ids=str,
)
def test_refusals(scene_file, monkeypatch, arguments, code, told):
    monkeypatch.chdir(scene_file.parent)
    before = sorted(scene_file.parent.iterdir())
    outcome = run("render", scene_file, *arguments)
    assert outcome.code == code, outcome.err
    assert outcome.err.startswith("error: ")
    assert told in outcome.err
    assert sorted(scene_file.parent.iterdir()) == before


def test_a_view_that_is_not_there(scene_file, cameras_file, tmp_path):
    out = tmp_path / "a.png"
    outcome = run("render", scene_file, "-o", out, "--cameras", cameras_file, "--view", 2)
    assert outcome.code == 2
    assert "0 to 1" in outcome.err
    outcome = run("render", scene_file, "-o", tmp_path / "a.gif", "--view", 0)
    assert outcome.code == 2
    assert "--view draws one image" in outcome.err


def test_meaning_can_be_blended_by_the_opacity_for_colour(draw, scene, tmp_path):
    opacities = np.full(len(scene), 0.9, np.float32)
    opacities[:300] = 0  # the table, seen and not meant
    hidden = replace(scene, gaussians=replace(scene.gaussians, meaning_opacities=opacities))
    save_scene(hidden, tmp_path / "hidden.ply")
    file = tmp_path / "hidden.ply"
    options = ("--what", "instance")
    assert at(draw(*options, scene=file), *TABLE) != at(draw(*options), *TABLE)
    colored = draw(*options, "--opacity", "color", scene=file)
    np.testing.assert_array_equal(colored, draw(*options))
    np.testing.assert_array_equal(draw(scene=file), draw())
    heat = draw("--query", "table", scene=file)
    assert not np.array_equal(heat, draw("--query", "table"))
    heat = draw("--query", "table", "--opacity", "color", scene=file)
    np.testing.assert_array_equal(heat, draw("--query", "table"))


@pytest.fixture
def sheet(scene_file, tmp_path):
    """Run `ffsplat render --sheet` and read the picture, its report, and where its tiles lie."""

    def call(*arguments, width=96, height=72):
        out = tmp_path / "sheet.png"
        files = ("render", scene_file, "--sheet", out, "--overwrite", "--json")
        outcome = run(*files, "--size", f"{width}x{height}", *arguments)
        assert outcome.code == 0, outcome.err
        with Image.open(out) as image:
            return np.asarray(image.convert("RGB")).astype(int), json.loads(outcome.out)

    return call


def tiles_of(image: np.ndarray, tile: np.ndarray) -> int:
    """How often a tile lies on a sheet, pixel by pixel."""
    height, width = tile.shape[:2]
    windows = np.lib.stride_tricks.sliding_window_view(image[..., 0], (height, width))
    firsts = np.argwhere(windows[..., height // 2, width // 2] == tile[height // 2, width // 2, 0])
    return sum(
        np.array_equal(image[y : y + height, x : x + width], tile) for y, x in firsts.tolist()
    )


def test_a_sheet_has_the_very_pictures_of_single_renders(draw, sheet, cameras_file):
    seen = ("--cameras", cameras_file)
    image, report = sheet(*seen, "--columns", 2, "--query", "table", "--query", "sofa")
    asked = ["\u201ctable\u201d", "\u201csofa\u201d"]
    assert report["rows"] == ["Rendered", "Novel views", "Depth", "Codes", "Objects", *asked]
    assert report["views"] == ["a", "b"]
    for view in (0, 1):
        for single in ((), ("--query", "table"), ("--query", "sofa")):
            assert tiles_of(image, draw(*seen, "--view", view, *single)) == 1
        # Labels share their colours over the views of a sheet; a single picture has its own legend.
        assert tiles_of(image, draw(*seen, "--view", view, "--what", "codes")[:, :96]) >= 1
        assert tiles_of(image, draw(*seen, "--view", view, "--what", "instance")) >= 1


def test_a_brief_sheet_has_all_kinds_of_picture_from_one_new_place(draw, sheet, cameras_file):
    seen = ("--cameras", cameras_file)
    image, report = sheet(*seen, "--brief", "--query", "table")
    assert report["rows"] == ["Scene"]
    for single in ((), ("--what", "depth"), ("--query", "table")):
        assert tiles_of(image, draw(*seen, *single)) == 1
    codes = draw(*seen, "--what", "codes")
    assert tiles_of(image, codes[:, :96]) == 1
    assert image.shape[1] == 24 + 132 + 4 * 96 + 3 * 8 + 24


def test_depths_of_a_sheet_share_one_range(draw, sheet, cameras_file):
    seen = ("--cameras", cameras_file)
    one, _ = sheet(*seen, "--columns", 1)
    single = draw(*seen, "--view", 0, "--what", "depth")
    assert tiles_of(one, single) == 1
    two, _ = sheet(*seen, "--columns", 2)
    assert tiles_of(two, single) == 0  # the other camera sees other depths


def test_photos_stand_above_their_views(sheet, cameras_file, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.new("RGB", (400, 200), (10, 200, 30)).save(folder / "a", "PNG")
    image, report = sheet("--cameras", cameras_file, "--photos", folder)
    assert report["rows"][0] == "Photos"
    green = np.argwhere((image == [10, 200, 30]).all(-1))
    # A photo of 400 x 200 pixels lies whole in a tile of 96 x 72: 96 x 48, 12 below its top.
    assert np.ptp(green, axis=0).tolist() == [47, 95]
    assert len(green) == 48 * 96
    (folder / "b").write_bytes(b"no photo")
    out = tmp_path / "c.png"
    files = ("--cameras", cameras_file, "--photos", folder, "--sheet", out)
    outcome = run("render", tmp_path / "in" / "room.ply", *files)
    assert outcome.code == 1
    assert "cannot read" in outcome.err
    assert not out.exists()


def test_a_sheet_has_no_more_columns_than_views_and_the_shape_of_most(sheet, cameras_file):
    image, _ = sheet("--cameras", cameras_file, "--columns", 16)
    assert image.shape[1] == 24 + 132 + 2 * 96 + 8 + 24
    sizes = np.array([[30, 40], [40, 30], [400, 300]], np.int32)
    lens = np.tile(np.eye(3, dtype=np.float32), (3, 1, 1))
    poses = np.tile(np.eye(4, dtype=np.float32), (3, 1, 1))
    mixed = replace(small_room(10), cameras=Cameras(poses, lens, sizes, ("a", "b", "c")))
    assert _tile_of(mixed) == (320, 240)


def test_a_sheet_without_cameras_shows_a_loop(sheet, draw):
    image, report = sheet("--columns", 1)
    assert report["rows"] == ["Rendered", "Depth", "Codes", "Objects"]
    assert report["views"] == ["orbit-0000"]
    assert image.shape[1] == 24 + 132 + 96 + 24


def test_a_sheet_of_a_scene_without_meaning(scene, tmp_path):
    save_scene(scene, tmp_path / "plain.ply", profile="plain")
    out = tmp_path / "a.png"
    files = ("render", tmp_path / "plain.ply", "--sheet", out, "--columns", 1, *SIZE, "--json")
    outcome = run(*files)
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["rows"] == ["Rendered", "Depth"]
