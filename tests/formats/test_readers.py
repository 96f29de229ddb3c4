"""Other people's readers see in our files what ours sees, and ours reads their files."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh

from ffsplat.formats import read_scene, write_scene
from ffsplat.formats.gltf import coefficients
from ffsplat.formats.packing import morton_order
from ffsplat.types import Gaussians, Scene
from tests.formats.limits import FLOAT, ROUNDED, SPZ2
from tests.formats.scenes import angles, assert_near, small_scene

FOLDER = Path(__file__).resolve().parents[1] / "readers"
MODULES = FOLDER / "node_modules"
TRANSFORM = MODULES / "@playcanvas" / "splat-transform" / "bin" / "cli.mjs"
LOGIT = {"opacities": 3e-6, "angles": 0.06, "scales": 3e-6}
"""What a detour over the logit, the logarithm and float32 quaternions costs."""

needs_npm = pytest.mark.skipif(
    shutil.which("node") is None or not (MODULES / "gltf-validator").is_dir(),
    reason="the npm readers are absent: install node and run `npm ci` in tests/readers",
)
VARIANTS = {
    "splat": ("a.splat", {}),
    "spz": ("a.spz", {}),
    "spz 2": ("b.spz", {"spz_version": "2"}),
    "spz 4": ("c.spz", {"spz_version": "4"}),
    "compressed-ply": ("a.compressed.ply", {}),
    "sog": ("a.sog", {}),
}


@pytest.fixture(scope="module")
def scene() -> Scene:
    return small_scene(9)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, scene) -> Path:
    """A folder with the scene in every format, and as PLY."""
    folder = tmp_path_factory.mktemp("readers")
    for name, options in [("a.ply", {}), ("a.glb", {}), *VARIANTS.values()]:
        write_scene(scene, folder / name, **options)
    return folder


def node(*arguments: str | Path) -> str:
    command = ["node", "--no-deprecation", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def expected(scene: Scene, variant: str) -> Gaussians:
    if variant in ("compressed-ply", "sog"):
        return scene.gaussians[morton_order(scene.gaussians.means)]
    return scene.gaussians


def limits(variant: str) -> dict[str, float]:
    chosen = SPZ2 if variant == "spz 2" else ROUNDED[variant.split()[0]]
    return {key: value + LOGIT.get(key, 0) for key, value in chosen.items()}


@needs_npm
@pytest.mark.reader
@pytest.mark.parametrize("variant", VARIANTS)
def test_splat_transform_reads_ours(variant, scene, folder, tmp_path):
    """Against the scene within the bits of the format, and against our reader to float32."""
    name, _ = VARIANTS[variant]
    node(TRANSFORM, "-q", "-w", folder / name, tmp_path / "back.ply")
    seen = read_scene(tmp_path / "back.ply").gaussians
    ours = read_scene(folder / name).gaussians
    bounds = limits(variant)
    if variant == "sog":
        bounds["sh"] = 2.0  # a palette: the second comparison says more
    if variant == "splat":
        bounds["angles"] = 2.0  # it reads (b / 255) * 2 - 1, the format's author (b - 128) / 128
    assert_near(expected(scene, variant), seen, bounds)
    detour = FLOAT | LOGIT | ({"angles": 1.0} if variant == "splat" else {})
    assert_near(ours, seen, detour | {"means": 1e-6, "sh": 1e-6})


@needs_npm
@pytest.mark.reader
@pytest.mark.parametrize("suffix", ["splat", "spz", "compressed.ply", "sog", "glb"])
def test_ours_reads_what_splat_transform_writes(suffix, scene, folder, tmp_path):
    """GLB is exact but for the turn into the axes of glTF, and the SH with it."""
    path = tmp_path / f"a.{suffix}"
    device = ["-g", "cpu", "-i", "2"] if suffix == "sog" else []
    node(TRANSFORM, "-q", "-w", *device, folder / "a.ply", path)
    seen, gaussians = read_scene(path).gaussians, scene.gaussians
    if suffix == "glb":
        assert_near(gaussians, seen, FLOAT | LOGIT | {"means": 1e-6, "sh": 1e-5})
        return
    distances = np.linalg.norm(gaussians.means[:, None] - seen.means, axis=2)
    nearest = distances.argmin(axis=1)
    assert len(np.unique(nearest)) == len(gaussians)
    bounds = limits({"compressed.ply": "compressed-ply"}.get(suffix, suffix))
    # splat-transform cuts bytes off where we round, and its tables are not ours.
    bounds |= {"opacities": 1.01 / 255, "angles": 2.0}
    bounds |= {"colors": 1.01 / 255 / 0.28} if suffix == "splat" else {}
    bounds |= {"colors": 1.5, "sh": 2.0, "scales": 0.6} if suffix == "sog" else {}
    bounds |= {"means": 2**-12, "sh": 0.1} if suffix == "spz" else {}
    assert_near(gaussians, seen[nearest], bounds)


@needs_npm
@pytest.mark.reader
def test_our_tables_of_sog_are_as_good_as_theirs(tmp_path):
    scene = small_scene(4, count=1500)
    write_scene(scene, tmp_path / "a.ply")
    write_scene(scene, tmp_path / "ours.sog")
    command = ("-q", "-w", "-g", "cpu", "-i", "3")
    node(TRANSFORM, *command, tmp_path / "a.ply", tmp_path / "theirs.sog")

    def errors(path: Path) -> list[float]:
        """Root mean square of scales, colours, SH, Gaussian for Gaussian."""
        seen, gaussians = read_scene(path).gaussians, scene.gaussians
        seen = seen[np.linalg.norm(gaussians.means[:, None] - seen.means, axis=2).argmin(axis=1)]
        pairs = [
            (np.log(gaussians.scales), np.log(seen.scales)),
            (gaussians.sh[:, 0], seen.sh[:, 0]),
            (gaussians.sh[:, 1:], seen.sh[:, 1:]),
        ]
        return [float(np.sqrt(np.square(a - b).mean())) for a, b in pairs]

    ours, theirs = errors(tmp_path / "ours.sog"), errors(tmp_path / "theirs.sog")
    ratios = np.divide(ours, theirs)
    assert (ratios <= [1.25, 1.1, 1.25]).all(), ratios  # they search all tables and all pairs


@pytest.mark.parametrize("variant", ["spz", "spz 2", "compressed-ply"])
def test_gsply_reads_ours(variant, scene, folder, tmp_path):
    seen = gsply("read", folder / VARIANTS[variant][0], tmp_path / "seen.npz")
    assert_near(expected(scene, variant), seen, limits(variant))


def test_ours_reads_what_gsply_writes(scene, folder, tmp_path):
    written = gsply("write", folder / "a.ply", tmp_path / "a.spz")
    assert_near(scene.gaussians, written, FLOAT | LOGIT)
    bounds = limits("spz") | {"means": 2**-12, "sh": 0.1}
    assert_near(scene.gaussians, read_scene(tmp_path / "a.spz").gaussians, bounds)


def gsply(action: str, source: Path, target: Path) -> Gaussians:
    """The Gaussians of `source` as gsply reads them, without the time to compile it."""
    command = [sys.executable, FOLDER / "read_gsply.py", action, source, target]
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with np.load(target.with_suffix(".npz")) as seen:
        opacities = 1 / (1 + np.exp(-seen["opacities"].astype(np.float64)))
        rest = seen["shN"].reshape(len(seen["means"]), -1, 3)
        return Gaussians(
            seen["means"],
            np.exp(seen["scales"]),
            seen["quats"],
            opacities.astype(np.float32).reshape(-1),
            np.concatenate([seen["sh0"][:, None], rest], axis=1),
        )


def test_trimesh_shows_our_glb_with_z_forward_and_y_up(scene, folder):
    loaded = trimesh.load(folder / "a.glb")
    (cloud,) = loaded.geometry.values()
    turned = trimesh.transform_points(
        cloud.vertices, loaded.graph[loaded.graph.nodes_geometry[0]][0]
    )
    half_turn = scene.gaussians.means * [-1, -1, 1]
    np.testing.assert_allclose(turned, half_turn, atol=1e-6)
    colors = ((np.asarray(cloud.colors)[:, :3] / 255 + 1e-9) * 1.0) ** (1 / 2.2)
    assert np.abs(colors - scene.gaussians.colors).mean() < 0.02


@pytest.fixture(scope="module")
def three(folder) -> dict:
    """What three.js's GLTFLoader makes of the file."""
    return json.loads(node(FOLDER / "readers.mjs", "three", folder / "a.glb"))


@needs_npm
@pytest.mark.reader
def test_three_reads_every_attribute_of_our_glb(scene, three):
    gaussians, seen = scene.gaussians, {k: np.array(v) for k, v in three["attributes"].items()}
    prefix = "khr_gaussian_splatting"
    assert np.array_equal(np.float32(seen["position"]), gaussians.means)
    assert np.array_equal(np.float32(seen[f"{prefix}:scale"]), gaussians.scales)
    assert np.array_equal(np.float32(seen[f"{prefix}:opacity"])[:, 0], gaussians.opacities)
    rotations = seen[f"{prefix}:rotation"][:, [3, 0, 1, 2]]
    assert np.array_equal(np.float32(rotations), gaussians.quaternions_wxyz)
    for i, name in enumerate(coefficients(9)):
        assert np.array_equal(np.float32(seen[name.lower()]), gaussians.sh[:, i])
    assert np.array_equal(seen["_ffsplat_ids_0"], scene.codes.ids)
    assert np.array_equal(seen["_ffsplat_weights_0"], scene.codes.weights)
    assert np.array_equal(seen["_ffsplat_instance"][:, 0], scene.instances)
    assert np.array_equal(three["matrix"], np.diag([-1, -1, 1, 1]).ravel())


@needs_npm
@pytest.mark.reader
def test_three_looks_through_our_cameras(scene, three):
    cameras = scene.cameras
    for number, seen in enumerate(three["cameras"]):
        matrix = np.array(seen["matrix"]).reshape(4, 4).T
        pose = cameras.world_from_camera[number]
        turned = pose[:3] * np.array([[-1], [-1], [1]])
        np.testing.assert_allclose(matrix[:3, 3], turned[:, 3], atol=1e-6)
        np.testing.assert_allclose(-matrix[:3, 2], turned[:, 2], atol=1e-6)  # forward
        np.testing.assert_allclose(matrix[:3, 1], -turned[:, 1], atol=1e-6)  # up
        width, height = cameras.sizes[number]
        lens = cameras.intrinsics[number]
        tangent = np.tan(np.radians(seen["fov"]) / 2)
        assert tangent == pytest.approx(height / 2 / lens[1, 1])
        assert tangent * seen["aspect"] == pytest.approx(width / 2 / lens[0, 0])
    assert len(three["cameras"]) == 2


@needs_npm
@pytest.mark.reader
@pytest.mark.parametrize("name", ["a.glb", "a.gltf"])
def test_the_validator_objects_to_nothing_but_names_it_does_not_know(name, scene, tmp_path):
    write_scene(scene, tmp_path / name)
    report = json.loads(node(FOLDER / "readers.mjs", "gltf-validator", tmp_path / name))
    messages = report["issues"]["messages"]
    errors = [message for message in messages if message["severity"] < 2]
    assert all(m["code"] == "MESH_PRIMITIVE_INVALID_ATTRIBUTE" for m in errors), errors
    assert all(m["pointer"].split("/")[-1].startswith("KHR_gaussian_splatting:") for m in errors)
    assert len(errors) == 3 + 9
    others = {message["code"] for message in messages} - {"MESH_PRIMITIVE_INVALID_ATTRIBUTE"}
    assert others <= {"UNSUPPORTED_EXTENSION", "UNUSED_OBJECT"}


def test_angles_between_rotations():
    a = np.array([[1, 0, 0, 0], [1, 0, 0, 0]])
    b = np.array([[-1, 0, 0, 0], [np.cos(0.1), 0, np.sin(0.1), 0]])
    np.testing.assert_allclose(angles(a, b), [0, np.degrees(0.2)], atol=1e-6)
