"""The teacher set, read as LangSplat, 3DGS and gsplat read theirs."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from posedroom import posed_room

from ffsplat.errors import ImageError, OutputError, UsageError
from ffsplat.formats.teacher import language_features, unique_stems, write_teacher
from ffsplat.io import load_scene, read_codebook
from ffsplat.types import LEVELS

STEMS = ["view_0", "view_1", "view_2"]


@pytest.fixture(scope="module")
def room():
    """The small room; half of the table's Gaussians are its legs as well."""
    from ffsplat import codes

    scene = posed_room()
    table = scene.codebook.names.index("table")
    leg = next(i for i, level in enumerate(scene.codebook.levels) if LEVELS[level] == "part")
    dense = codes.to_dense(scene.codes, len(scene.codebook))
    legs = np.flatnonzero(dense[:, table] > 0)[::2]
    dense[legs, leg] = 0.6
    return replace(scene, codes=codes.from_dense(dense))


@pytest.fixture(scope="module")
def folder(room, tmp_path_factory):
    path = tmp_path_factory.mktemp("teacher") / "set"
    write_teacher(room, path)
    return path


def langsplat_lookup(folder, stem, level):
    """What LangSplat's Camera.get_language_feature computes: (d, h, w) features and a mask."""
    segments = torch.from_numpy(np.load(folder / f"language_features/{stem}_s.npy"))
    features = torch.from_numpy(np.load(folder / f"language_features/{stem}_f.npy"))
    with Image.open(folder / f"images/{stem}.png") as image:
        width, height = image.size
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    chosen = segments[:, y.reshape(-1, 1), x.reshape(-1, 1)].squeeze(-1).long()
    mask = (chosen != -1)[level].reshape(1, height, width)
    return features[chosen[level]].reshape(height, width, -1).permute(2, 0, 1), mask


@pytest.mark.parametrize(("level", "kind"), [(0, "whole"), (1, "part"), (3, "whole")])
def test_langsplat_looks_up_the_row_that_we_render(room, folder, level, kind):
    rows = next(iter(room.codebook.spaces.values())).astype(np.float32)
    for view, stem in enumerate(STEMS):
        found, mask = langsplat_lookup(folder, stem, level)
        ours = room.render(room.cameras[[view]], "codes", level=kind)[0]
        np.testing.assert_array_equal(mask[0].numpy(), ours >= 0)
        seen = ours >= 0
        assert seen.any()
        np.testing.assert_array_equal(found.numpy().transpose(1, 2, 0)[seen], rows[ours[seen]])


def test_middle_segments_are_parts_and_things_where_there_is_none(room, folder):
    parts, things = (langsplat_lookup(folder, "view_0", level) for level in (1, 3))
    found, mask = langsplat_lookup(folder, "view_0", 2)
    expected = torch.where(parts[1], parts[0], things[0])
    assert torch.equal(mask, parts[1] | things[1])
    assert torch.equal(found[:, mask[0]], expected[:, mask[0]])


def test_files_are_what_langsplat_saves(room, folder):
    everything = []
    for stem in STEMS:
        segments = np.load(folder / f"language_features/{stem}_s.npy")
        features = np.load(folder / f"language_features/{stem}_f.npy")
        assert (segments.dtype, segments.shape) == (np.float32, (4, 36, 48))
        assert features.dtype == np.float32
        assert len(features) == int(segments.max() + 1), "the assertion of its preprocess.py"
        present = np.unique(segments[segments >= 0])
        np.testing.assert_array_equal(present, np.arange(len(features)))
        everything.append(features)
    loaded = np.concatenate([np.load(f) for f in sorted(folder.glob("language_features/*f.npy"))])
    np.testing.assert_array_equal(loaded, np.concatenate(everything))
    np.testing.assert_allclose(np.linalg.norm(loaded, axis=1), 1, atol=1e-3)


def test_colmap_reads_cameras_under_the_names_of_the_images(room, folder):
    pycolmap = pytest.importorskip("pycolmap")
    model = pycolmap.Reconstruction(folder / "sparse/0")
    names = {image.name for image in model.images.values()}
    assert names == {path.name for path in (folder / "images").iterdir()}
    for image in model.images.values():
        index = STEMS.index(image.name.removesuffix(".png"))
        read = np.vstack([image.cam_from_world().matrix(), [0, 0, 0, 1]])
        np.testing.assert_allclose(
            read @ room.cameras.world_from_camera[index], np.eye(4), atol=1e-5
        )


def test_codes_and_gaussians_go_along(room, folder):
    codes = np.load(folder / "codes/view_1.npy")
    ours = room.render(room.cameras[[1]], "codes", level="part")[0]
    np.testing.assert_array_equal(codes[1], ours)
    assert read_codebook(folder / "codebook.safetensors").names == room.codebook.names
    np.testing.assert_allclose(
        load_scene(folder / "point_cloud.ply").gaussians.means, room.gaussians.means
    )
    facts = json.loads((folder / "teacher.json").read_text())
    assert [view["stem"] for view in facts["views"]] == STEMS
    assert facts["images"] == "renders of the scene"


def test_photos_are_copied_at_the_size_of_the_views(room, tmp_path):
    photos = tmp_path / "in" / "photos"
    photos.mkdir(parents=True)
    random = np.random.default_rng(0)
    pixels = random.integers(0, 255, (36, 48, 3)).astype(np.uint8)
    for view in range(3):
        Image.fromarray(pixels).save(photos / f"view {view}.jpg", quality=95)
    done = write_teacher(room, tmp_path / "a", images=tmp_path / "in", tracks=False)
    assert done.photos
    with (
        Image.open(tmp_path / "a/images/view_2.png") as image,
        Image.open(photos / "view 2.jpg") as jpg,
    ):
        np.testing.assert_array_equal(np.asarray(image), np.asarray(jpg))
    write_teacher(room, tmp_path / "b", images=photos, longest=24, tracks=False)
    assert Image.open(tmp_path / "b/images/view_0.png").size == (24, 18)
    assert np.load(tmp_path / "b/language_features/view_0_s.npy").shape == (4, 18, 24)


def test_photos_that_are_not_those_of_the_cameras_are_refused(room, tmp_path):
    with pytest.raises(ImageError, match=r"no photo photos/view 0\.jpg"):
        write_teacher(room, tmp_path / "out", images=tmp_path)
    for view in range(3):
        Image.new("RGB", (36, 48)).save(tmp_path / f"view {view}.jpg")
    with pytest.raises(ImageError, match="is 36x48, its camera 48x36"):
        write_teacher(room, tmp_path / "out", images=tmp_path)
    assert not (tmp_path / "out").exists()


def test_a_view_that_sees_nothing_has_one_feature_of_zeros():
    segments, features = language_features(
        np.full((2, 3, 4), -1, np.int16), np.eye(5, dtype=np.float32)
    )
    assert (segments == -1).all()
    np.testing.assert_array_equal(features, np.zeros((1, 5)))


def test_names_are_cut_where_langsplat_cuts_them():
    assert unique_stems(("a/x y.1.jpg", "b/z.png")) == ["x_y", "z"]
    assert unique_stems(("a/x.jpg", "b/x.png")) == ["0000_x", "0001_x"]
    assert unique_stems((".jpg", "../..")) == ["0000_", "0001_"]
    assert unique_stems(("пол.jpg", "é x.png")) == ["_", "_x"]
    assert unique_stems(("пол.jpg", "стол.jpg")) == ["0000__", "0001__"]


def test_nothing_is_overwritten_and_what_lacks_is_told(room, folder):
    with pytest.raises(OutputError, match="already exists"):
        write_teacher(room, folder)
    with pytest.raises(UsageError, match="no codes"):
        write_teacher(replace(room, codes=None), folder.parent / "other")
    with pytest.raises(UsageError, match="no cameras"):
        write_teacher(replace(room, cameras=None), folder.parent / "other")
