"""Every format of the table: what comes back, what is lost, what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ffsplat.errors import OutputError, SceneFileError, UsageError
from ffsplat.formats import (
    FORMATS,
    TRAITS,
    format_to_read,
    format_to_write,
    lost,
    read_scene,
    write_scene,
)
from ffsplat.formats.format import RANGES
from ffsplat.formats.packing import morton_order
from ffsplat.io import load_scene
from ffsplat.types import SH_C0, Scene
from tests.formats.limits import EXACT, FLOAT, ROUNDED, SPZ2
from tests.formats.scenes import SPLATS, assert_near, name_of, small_scene

SORTED = ("compressed-ply", "sog")
WHOLE = ("gltf", "npz", "safetensors")
LIMITS = {"ply": FLOAT, "gltf": EXACT, "npz": EXACT, "safetensors": EXACT, **ROUNDED}


def in_order(scene: Scene, format_: str) -> Scene:
    """The scene in the order in which a format keeps its rows."""
    return scene[morton_order(scene.gaussians.means)] if format_ in SORTED else scene


def there_and_back(scene: Scene, format_: str, folder: Path, **options) -> Scene:
    path = folder / name_of(format_)
    assert write_scene(scene, path, overwrite=True, **options).name == format_
    return load_scene(path)


@pytest.mark.parametrize("sh", [1, 4, 9, 16])
@pytest.mark.parametrize("format_", SPLATS)
def test_gaussians_come_back_as_near_as_the_format_says(format_, sh, tmp_path):
    if format_ == "sog" and sh > 1:
        pytest.skip("a palette has no bound for each coefficient; see test_quantize")
    scene = small_scene(sh)
    back = there_and_back(scene, format_, tmp_path)
    assert back.gaussians.sh.shape[1] == (sh if "sh" in FORMATS[format_].carries else 1)
    assert_near(in_order(scene, format_).gaussians, back.gaussians, LIMITS[format_])


@pytest.mark.parametrize(("version", "limits"), [("2", SPZ2), ("3", None), ("4", None)])
def test_versions_of_spz(version, limits, tmp_path):
    scene = small_scene(16)
    back = there_and_back(scene, "spz", tmp_path, spz_version=version)
    assert_near(scene.gaussians, back.gaussians, limits or ROUNDED["spz"])


@pytest.mark.parametrize("format_", SPLATS)
def test_what_a_format_carries_comes_back_and_nothing_else(format_, tmp_path):
    scene, carries = small_scene(4), FORMATS[format_].carries
    back = there_and_back(scene, format_, tmp_path)
    assert (back.codes is not None) == ("codes" in carries)
    assert (back.codebook is not None) == ("codebook" in carries)
    assert (back.instances is not None) == ("instances" in carries)
    assert (back.gaussians.meaning_opacities is not None) == ("meaning" in carries)
    assert (back.cameras is not None) == ("cameras" in carries)
    assert bool(back.provenance) == ("provenance" in carries)


@pytest.mark.parametrize("codes", [1, 4, 6])
@pytest.mark.parametrize("format_", WHOLE)
def test_meaning_comes_back_whole(format_, codes, tmp_path):
    scene = small_scene(codes=codes)
    back = there_and_back(scene, format_, tmp_path)
    assert np.array_equal(back.instances, scene.instances)
    assert np.array_equal(back.gaussians.meaning_opacities, scene.gaussians.meaning_opacities)
    assert back.codebook.names == scene.codebook.names
    assert list(back.codebook.spaces) == list(scene.codebook.spaces)
    assert (back.metric, dict(back.provenance)) == (scene.metric, dict(scene.provenance))
    assert back.cameras.names == scene.cameras.names
    for field in ("world_from_camera", "intrinsics", "sizes"):
        assert np.array_equal(getattr(back.cameras, field), getattr(scene.cameras, field))
    if format_ == "gltf":
        for field in ("ids", "weights", "norms"):
            assert np.array_equal(getattr(back.codes, field), getattr(scene.codes, field))
    else:
        step = np.abs(back.codes.weights.astype(float) - scene.codes.weights).max()
        assert step <= 1 / 255 + 1e-3
        used = back.codes.ids != -1
        assert np.array_equal(back.codes.ids[used], scene.codes.ids[used])
        assert (scene.codes.weights[~used] < 1 / 255).all()


@pytest.mark.parametrize("format_", SPLATS)
def test_the_same_scene_is_the_same_file(format_, tmp_path):
    scene = small_scene(4)
    paths = tmp_path / name_of(format_), tmp_path / f"again{FORMATS[format_].suffixes[0]}"
    for path in paths:
        write_scene(scene, path)
    if format_ == "ply":  # its header names the file of the codebook
        assert paths[0].stat().st_size == paths[1].stat().st_size
    else:
        assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize("format_", SPLATS)
def test_one_gaussian_at_the_origin(format_, tmp_path):
    scene = small_scene()[:1]
    scene = replace(scene, gaussians=replace(scene.gaussians, means=np.zeros((1, 3), np.float32)))
    back = there_and_back(scene, format_, tmp_path)
    assert np.array_equal(back.gaussians.means, scene.gaussians.means)


@pytest.mark.parametrize("format_", SPLATS)
def test_opacities_of_0_and_1_are_finite_after_reading(format_, tmp_path):
    scene = small_scene()[:2]
    ends = np.array([0, 1], np.float32)
    scene = replace(scene, gaussians=replace(scene.gaussians, opacities=ends))
    back = there_and_back(scene, format_, tmp_path).gaussians.opacities
    np.testing.assert_allclose(np.sort(back), ends, atol=1 / 255 + 1e-6)


@pytest.mark.parametrize("format_", [name for name in SPLATS if name != "ply"])
def test_scenes_that_no_file_can_hold_are_refused(format_, tmp_path):
    scene, path = small_scene(), tmp_path / name_of(format_)
    broken = scene.gaussians.means.copy()
    broken[3, 1] = np.nan
    with pytest.raises(OutputError, match="1 of 600 Gaussians hold NaN"):
        write_scene(replace(scene, gaussians=replace(scene.gaussians, means=broken)), path)
    with pytest.raises(OutputError, match="no Gaussians"):
        write_scene(scene[:0], path)
    assert not path.exists()


@pytest.mark.parametrize("format_", SPLATS)
def test_a_file_is_not_overwritten_unless_asked(format_, tmp_path):
    path = tmp_path / name_of(format_)
    path.write_bytes(b"mine")
    with pytest.raises(OutputError, match="already exists"):
        write_scene(small_scene(), path)
    assert path.read_bytes() == b"mine"


def test_spz_of_a_large_scene_gives_up_bits_and_then_refuses(tmp_path):
    scene = small_scene()
    far = replace(scene.gaussians, means=scene.gaussians.means * 1e5)
    back = there_and_back(replace(scene, gaussians=far), "spz", tmp_path)
    extent = np.abs(far.means).max()
    assert np.abs(back.gaussians.means - far.means).max() <= extent / 2**21
    with pytest.raises(OutputError, match="8 million units"):
        write_scene(replace(scene, gaussians=replace(far, means=far.means * 1e3)),
                    tmp_path / "a.spz")  # fmt: skip


def test_lost_says_what_the_scene_has_and_the_format_has_not():
    scene = small_scene(16)
    assert lost(scene, FORMATS["gltf"]) == []
    assert lost(scene, FORMATS["npz"]) == ["precision beyond 8-bit code weights"]
    assert lost(scene, FORMATS["ply"]) == ["cameras"]
    assert lost(scene, FORMATS["splat"]) == [
        *(TRAITS[key] for key in ("sh", "codes", "codebook", "instances", "meaning")),
        *(TRAITS[key] for key in ("cameras", "provenance", "metric")),
        "precision beyond 8-bit colours, opacities and rotations",
    ]
    faint = int((scene.gaussians.opacities < 0.4).sum())
    points = lost(scene, FORMATS["colmap"], min_opacity=0.4)
    assert f"{faint} Gaussians below opacity 0.4" in points
    bare = Scene(replace(small_scene(1).gaussians, meaning_opacities=None))
    assert lost(bare, FORMATS["gltf"]) == lost(bare, FORMATS["npz"]) == []
    low = replace(FORMATS["gltf"], sh_degree=1)
    assert lost(scene, low) == ["SH above degree 1"]


@pytest.mark.parametrize(
    "format_", [name for name, row in FORMATS.items() if row.ranges and row.reads]
)
def test_what_lies_outside_of_a_range_comes_back_at_its_end(format_, tmp_path):
    """One value each way a time: the others say what rounding costs."""
    scene, row = small_scene(4, count=8), FORMATS[format_]
    gaussians = replace(scene.gaussians, sh=np.zeros_like(scene.gaussians.sh))
    changed = {
        "scales": (lambda v: replace(gaussians, scales=np.full((8, 3), v, np.float32))),
        "colors": (lambda v: replace(gaussians, sh=_all_first(gaussians.sh, (v - 0.5) / SH_C0))),
        "sh": (lambda v: replace(gaussians, sh=_all_rest(gaussians.sh, v))),
    }
    seen = {
        "scales": lambda g: np.log(g.scales),
        "colors": lambda g: 0.5 + SH_C0 * g.sh[:, 0],
        "sh": lambda g: g.sh[:, 1:],
    }
    for name, ends in row.ranges.items():
        for end, beyond in zip(ends, (-1, 1), strict=True):
            value = end * np.exp(2 * beyond) if name == "scales" else end + 0.5 * beyond
            one = replace(scene, gaussians=changed[name](value))
            assert any(f"{RANGES[name]} outside" in phrase for phrase in lost(one, row))
            write_scene(one, tmp_path / "a", format_=format_, overwrite=True)
            back = seen[name](read_scene(tmp_path / "a", format_=format_).gaussians)
            limit = np.log(end) if name == "scales" else end
            np.testing.assert_allclose(back, limit, atol=0.04 * max(1, abs(limit)))


def _all_first(sh: np.ndarray, value: float) -> np.ndarray:
    changed = sh.copy()
    changed[:, 0] = value
    return changed


def _all_rest(sh: np.ndarray, value: float) -> np.ndarray:
    changed = sh.copy()
    changed[:, 1:] = value
    return changed


def test_folders_are_known_by_what_lies_in_them(tmp_path):
    scene = small_scene()
    write_scene(scene, tmp_path / "model", format_="colmap", tracks=False)
    write_scene(scene, tmp_path / "studio", format_="nerfstudio")
    for folder, format_ in (("model", "colmap"), ("studio", "nerfstudio")):
        assert format_to_read(tmp_path / folder).name == format_
        assert read_scene(tmp_path / folder).cameras.names == scene.cameras.names
    with pytest.raises(SceneFileError, match="a folder in no format"):
        read_scene(tmp_path)


def test_names_and_content_say_the_format(tmp_path):
    assert format_to_write("a.ply").name == "ply"
    assert format_to_write("a.compressed.ply").name == "compressed-ply"
    assert format_to_write("A.GLB").name == "gltf"
    write_scene(small_scene(), tmp_path / "a.ply", format_="compressed-ply")
    assert format_to_read(tmp_path / "a.ply").name == "compressed-ply"
    write_scene(small_scene(), tmp_path / "b.compressed.ply", format_="ply")
    assert format_to_read(tmp_path / "b.compressed.ply").name == "ply"
    with pytest.raises(UsageError, match=r"no format is known for the name a\.xyz"):
        format_to_write("a.xyz")
    with pytest.raises(UsageError, match="there is no format 'usdz'"):
        format_to_write("a.ply", "usdz")
    with pytest.raises(UsageError, match="a codebook beside the file means nothing to splat"):
        read_scene(tmp_path / "a.splat", codebook="b.safetensors")
    with pytest.raises(SceneFileError, match="cannot read"):
        read_scene(tmp_path / "absent.spz")
    with pytest.raises(UsageError, match="spz has no option ply-profile"):
        write_scene(small_scene(), tmp_path / "a.spz", ply_profile="plain")


def test_every_row_has_a_module_that_does_what_it_says():
    for name, format_ in FORMATS.items():
        assert format_.name == name
        assert format_.reads or format_.writes
        assert format_.carries <= set(TRAITS)
        assert set(format_.ranges) <= set(RANGES)
        module = format_.load()
        assert not format_.reads or callable(module.read)
        assert not format_.writes or callable(module.write)
