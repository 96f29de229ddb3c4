"""Depth, normal and feature maps: equal to what is rendered, and to closed forms."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from boxroom import HALF, cameras, depth_and_points
from PIL import Image
from posedroom import posed_room

from ffsplat import codes
from ffsplat.errors import OutputError, UsageError
from ffsplat.formats import write_scene
from ffsplat.formats.cameras import scaled
from ffsplat.formats.maps import normal_map, write
from tests.io.scenes import random_codebook

ROWS, SIZE = 20, 150


@pytest.fixture(scope="module")
def room():
    """The small room with mixed codes over random rows of 150 numbers, in two spaces."""
    scene = posed_room()
    random = np.random.default_rng(5)
    table = random.normal(size=(ROWS, SIZE))
    table = (table / np.linalg.norm(table, axis=1, keepdims=True)).astype(np.float16)
    book = random_codebook(ROWS)
    book = replace(
        book, spaces={"words": table, **{k: v for k, v in book.spaces.items() if k != "words"}}
    )
    ids = random.integers(0, ROWS, (len(scene), 4))
    code = codes.from_pairs(ids, random.uniform(0, 1, ids.shape))
    return replace(scene, codes=code, codebook=book)


@pytest.fixture(scope="module")
def features(room, tmp_path_factory):
    path = tmp_path_factory.mktemp("maps") / "features"
    write_scene(room, path, format_="maps", maps="features")
    return path


def test_features_of_a_pixel_are_linear_in_its_codes(room, features):
    """F t is what a splat of each Gaussian's own score gives, for any text t: (W S) t = W (S t)."""
    text = np.random.default_rng(6).normal(size=SIZE).astype(np.float32)
    rows = room.codebook.spaces["words"].astype(np.float32)
    scores = codes.score(room.codes, rows @ text)
    views = [room.render(room.cameras[[v]], "score", scores=scores)[0] for v in range(3)]
    for view, expected in enumerate(views):
        read = np.load(features / f"{view:04d}.npy")
        assert read.dtype == np.float16
        assert read.shape == (36, 48, SIZE)
        np.testing.assert_allclose(read.astype(np.float32) @ text, expected, atol=2e-2)
        assert (
            np.corrcoef((read.astype(np.float32) @ text).ravel(), expected.ravel())[0, 1] > 0.99999
        )


def test_features_are_the_blended_dense_features(room, features):
    """Against the plain reference renderer, with every Gaussian's feature written out."""
    from ffsplat.render import rasterize

    g, rows = room.gaussians, room.codebook.spaces["words"].astype(np.float32)
    dense = torch.from_numpy(codes.to_dense(room.codes, ROWS) @ rows)
    drawn = rasterize(
        *(torch.from_numpy(a) for a in (g.means, g.quaternions_wxyz, g.scales, g.opacities)),
        dense,
        torch.from_numpy(room.cameras.world_from_camera[1:2]),
        torch.from_numpy(room.cameras.intrinsics[1:2]),
        48,
        36,
        backend="reference",
    )
    read = np.load(features / "0001.npy").astype(np.float32)
    np.testing.assert_allclose(read, drawn.features[0].numpy(), atol=1e-3)


def test_the_index_names_views_and_space(room, features):
    index = json.loads((features / "maps.json").read_text())
    assert index["space"] == "words"
    assert [view["name"] for view in index["views"]] == list(room.cameras.names)
    assert {view["file"] for view in index["views"]} == {f"{v:04d}.npy" for v in range(3)}


def test_the_size_is_told_before_anything_is_made(room, tmp_path):
    with pytest.raises(
        UsageError, match=r"3 maps of features \(150 a pixel\) need 0.00156 GB, more"
    ):
        write(room, tmp_path / "out", maps="features", max_gigabytes=0.001)
    with pytest.raises(UsageError, match="maps of depth"):
        write(room, tmp_path / "out", max_gigabytes=1e-6)
    with pytest.raises(UsageError, match="more than nan"):
        write(room, tmp_path / "out", max_gigabytes=float("nan"))
    assert list(tmp_path.iterdir()) == []
    write(room, tmp_path / "out", maps="features", max_gigabytes=0.001, map_scale=0.5)
    assert np.load(tmp_path / "out" / "0000.npy").shape == (18, 24, SIZE)


def test_a_smaller_map_is_the_same_view(room):
    half = scaled(room.cameras, 0.5)
    full, small = (room.render(c[[0]], "depth")[0] for c in (room.cameras, half))
    both = (small > 0) & (full[::2, ::2] > 0)
    assert np.median(np.abs(small - full[::2, ::2])[both]) < 0.05


def test_depth_is_that_of_the_renderer(room, tmp_path):
    write(room, tmp_path / "out", maps="depth")
    step = json.loads((tmp_path / "out" / "depth.json").read_text())["units_per_step"]
    for view, expected in enumerate(room.render(room.cameras, "depth")):
        read = np.asarray(Image.open(tmp_path / "out" / f"{view:04d}.png")) * step
        np.testing.assert_allclose(read, expected, atol=0.51 * step)


def test_normals_of_a_room_are_those_of_its_walls():
    pose = cameras(3)[:, 2:]
    depth, intrinsics, points = depth_and_points(pose, 40.0, 48, 64)
    found = normal_map(depth[0, 0].numpy(), intrinsics[0, 0].numpy()) @ pose[0, 0, :3, :3].T.numpy()
    place = points[0, 0].reshape(48, 64, 3) / HALF
    axis = place.abs().argmax(-1, keepdim=True)
    truth = -torch.zeros(48, 64, 3).scatter(-1, axis, place.gather(-1, axis).sign()).numpy()
    cosine = (found * truth).sum(-1)
    walls = (truth @ [1, 2, 3]).astype(int)
    inner = np.ones_like(walls, bool)
    for axis in (0, 1):
        for step in (-1, 1):
            inner &= np.roll(walls, step, axis) == walls
    assert len(np.unique(walls[inner])) == 3
    assert (cosine[inner] > 0.9999).all(), "all but the pixels beside an edge of the room"
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1, atol=1e-5)


def test_normals_are_written_as_numbers_and_pictures(room, tmp_path):
    write(room, tmp_path / "out", maps="normals")
    normal = np.load(tmp_path / "out" / "0002.npy").astype(np.float32)
    seen = room.render(room.cameras[[2]], "depth")[0] > 0
    np.testing.assert_allclose(np.linalg.norm(normal, axis=-1), seen, atol=2e-3)
    picture = np.asarray(Image.open(tmp_path / "out" / "0002.png"))
    np.testing.assert_allclose(picture / 127.5 - 1, normal, atol=0.006)
    with pytest.raises(OutputError, match="already exists"):
        write(room, tmp_path / "out", maps="normals")


def test_what_cannot_be_mapped_is_refused(room, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(UsageError, match="no space 'other'"):
        write(room, out, maps="features", space="other")
    with pytest.raises(UsageError, match="no codes"):
        write(replace(room, codes=None), out, maps="features")
    with pytest.raises(UsageError, match="no cameras"):
        write(replace(room, cameras=None), out)
    with pytest.raises(UsageError, match="no pixels"):
        write(room, out, map_scale=0.001)
    with pytest.raises(UsageError, match="no maps"):
        write(room, out, maps="noise")
    assert not out.exists()
