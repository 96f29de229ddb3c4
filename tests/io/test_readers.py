"""Other people's readers open our files and see the same Gaussians and IDs."""

import json
import shutil
import subprocess
from pathlib import Path

import gsply
import numpy as np
import pytest
import trimesh
from plyfile import PlyData

from ffsplat.io import check_ply, load_scene, save_scene
from ffsplat.types import Scene
from tests.io.scenes import random_scene

FOLDER = Path(__file__).resolve().parents[1] / "readers"
MODULES = FOLDER / "node_modules"
TRANSFORM = MODULES / "@playcanvas" / "splat-transform" / "bin" / "cli.mjs"
FILES = [(1, "ffsplat"), (16, "ffsplat"), (1, "plain"), (9, "inria")]
"""SH coefficients of the scene, and profile of the file."""

EXTRA = [*(f"cb_id_{k}" for k in range(4)), *(f"cb_w_{k}" for k in range(4)), "cb_instance",
         "cb_opacity"]  # fmt: skip

needs_npm = pytest.mark.skipif(
    shutil.which("node") is None or not MODULES.is_dir(),
    reason="the npm readers are absent: install node and run `npm ci` in tests/readers",
)


@pytest.fixture(params=FILES, ids=str)
def written(request, tmp_path) -> tuple[Scene, Path, bool]:
    """A scene, its file, and whether the file holds the codes."""
    sh, profile = request.param
    scene = random_scene(200, sh, meaning=True)
    save_scene(scene, tmp_path / "scene.ply", profile=profile)
    return scene, tmp_path / "scene.ply", profile == "ffsplat"


def expected_extra(scene: Scene) -> np.ndarray:
    """The columns of EXTRA as a table."""
    assert scene.codes is not None
    assert scene.instances is not None
    opacities = scene.gaussians.opacities_of_meaning.astype(np.float64)
    logits = np.log(opacities / (1 - opacities)).astype(np.float32)
    parts = scene.codes.ids, scene.codes.weights, scene.instances[:, None], logits[:, None]
    return np.concatenate(parts, axis=1, dtype=np.float32)


def node(*arguments: str | Path) -> str:
    command = ["node", "--no-deprecation", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_plyfile(written):
    scene, path, has_codes = written
    vertex = PlyData.read(path)["vertex"]
    positions = np.stack([vertex[axis] for axis in "xyz"], axis=1)
    assert np.array_equal(positions, scene.gaussians.means)
    if has_codes:
        extra = np.stack([vertex[name] for name in EXTRA], axis=1)
        assert np.array_equal(extra, expected_extra(scene))


def test_trimesh(written):
    scene, path, has_codes = written
    cloud = trimesh.load(path)
    assert np.array_equal(np.float32(cloud.vertices), scene.gaussians.means)
    if has_codes:
        data = cloud.metadata["_ply_raw"]["vertex"]["data"]
        extra = np.stack([np.ravel(data[name]) for name in EXTRA], axis=1)
        assert np.array_equal(extra, expected_extra(scene))


def test_gsply(written):
    scene, path, _ = written
    data, gaussians = gsply.plyread(str(path)), scene.gaussians
    assert np.array_equal(data.means, gaussians.means)
    np.testing.assert_allclose(np.exp(data.scales), gaussians.scales, rtol=1e-5)
    np.testing.assert_allclose(data.quats, gaussians.quaternions_wxyz, atol=1e-6)
    assert np.array_equal(data.sh0, gaussians.sh[:, 0])


@needs_npm
@pytest.mark.reader
@pytest.mark.parametrize("reader", ["gsplat", "gaussian-splats-3d"])
def test_browser_readers(written, reader):
    scene, path, _ = written
    seen = json.loads(node(FOLDER / "readers.mjs", reader, path))
    assert np.array_equal(np.float32(seen["positions"]), scene.gaussians.means)
    np.testing.assert_allclose(seen["scales"], scene.gaussians.scales, rtol=1e-5)


@needs_npm
@pytest.mark.reader
def test_splat_transform_keeps_everything(written):
    scene, path, has_codes = written
    facts = json.loads(node(TRANSFORM, "-q", path, "--info", "json", "null"))
    assert facts["numGaussians"] == len(scene)
    columns = [column["name"] for column in facts["extraColumns"]]
    assert [name for name in columns if name.startswith("cb_")] == (EXTRA if has_codes else [])
    back = path.with_name("back.ply")
    node(TRANSFORM, "-q", path, back)
    before, after = (PlyData.read(file)["vertex"] for file in (path, back))
    assert {p.name for p in before.properties} == {p.name for p in after.properties}
    for column in before.properties:
        assert np.array_equal(before[column.name], after[column.name]), column.name
    if has_codes:
        codebook = path.with_name("scene.codebook.safetensors")
        ours, theirs = load_scene(path), load_scene(back, codebook)
        assert theirs.codes is not None
        assert ours.codes is not None
        assert np.array_equal(theirs.codes.ids, ours.codes.ids)
        assert np.array_equal(theirs.codes.norms, ours.codes.norms)
        assert np.array_equal(theirs.gaussians.sh, ours.gaussians.sh)
        assert np.array_equal(theirs.gaussians.quaternions_wxyz, ours.gaussians.quaternions_wxyz)


@needs_npm
@pytest.mark.reader
def test_splat_transform_orders_sh_as_we_do(written):
    """Dropping bands in their reader is dropping coefficients in ours."""
    scene, path, _ = written
    fewer = path.with_name("fewer.ply")
    node(TRANSFORM, "-q", path, "-H", "1", fewer)
    back = load_scene(fewer).gaussians.sh
    kept = min(4, scene.gaussians.sh.shape[1])
    assert np.array_equal(back[:, :kept], scene.gaussians.sh[:, :kept])


@needs_npm
@pytest.mark.reader
def test_files_that_it_refuses_break_our_rules_too(tmp_path):
    save_scene(random_scene(5), tmp_path / "a.ply")
    content = (tmp_path / "a.ply").read_bytes()
    (tmp_path / "a.ply").write_bytes(content + b"\0")
    command = ["node", str(TRANSFORM), "-q", str(tmp_path / "a.ply"), "--info", "json", "null"]
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0
    assert [violation.rule for violation in check_ply(tmp_path / "a.ply")] == ["file-size"]


def test_lock_file_names_no_host():
    lock = json.loads((FOLDER / "package-lock.json").read_text())
    packages = [package for name, package in lock["packages"].items() if name]
    assert packages
    assert all("resolved" not in package and "integrity" in package for package in packages)
