"""Meshes: of a room whose walls are known, and of Gaussians on them, read back by trimesh."""

from dataclasses import replace

import numpy as np
import pytest
import trimesh
from boxroom import HALF, cameras, depth_and_points
from scipy.spatial import cKDTree

from ffsplat.errors import OutputError, UsageError
from ffsplat.formats import write_scene
from ffsplat.formats.mesh import fused, write
from ffsplat.formats.tsdf import on_one_surface, triangles
from ffsplat.types import SH_C0, Cameras, Gaussians, Scene

SIZE, FOCAL, VIEWS = (96, 72), 50.0, 6
CORNER = HALF.numpy()

pytest.importorskip("skimage")


@pytest.fixture(scope="module")
def room():
    """Cameras in the box, its exact depth, and the points that they see."""
    poses = cameras(VIEWS, seed=4, turn=0.5, move=0.4)
    depth, intrinsics, points = depth_and_points(poses, FOCAL, SIZE[1], SIZE[0])
    posed = Cameras(
        poses[0].numpy(),
        intrinsics[0].numpy(),
        np.tile(np.array([SIZE], np.int32), (VIEWS, 1)),
        tuple(f"{view}.jpg" for view in range(VIEWS)),
    )
    return posed, depth[0].numpy(), points[0].reshape(-1, 3).numpy()


@pytest.fixture(scope="module")
def scene(room):
    """A flat Gaussian at each pixel, facing its wall, red on the floor and grey elsewhere."""
    posed, depth, points = room
    wall = np.abs(points / CORNER).argmax(1)
    pixel = (depth / FOCAL).reshape(-1, 1)
    scales = np.repeat(0.6 * pixel, 3, axis=1)
    scales[np.arange(len(wall)), wall] = 1e-3
    floor = (wall == 1) & (points[:, 1] > 0)
    colors = np.where(floor[:, None], [0.9, 0.1, 0.1], [0.5, 0.5, 0.5])
    gaussians = Gaussians(
        points.astype(np.float32),
        scales.astype(np.float32),
        np.tile(np.array([1, 0, 0, 0], np.float32), (len(points), 1)),
        np.full(len(points), 0.9, np.float32),
        ((colors - 0.5) / SH_C0).astype(np.float32)[:, None],
    )
    return Scene(gaussians, cameras=posed)


def to_wall(points):
    """Distance of points to the surface of the box."""
    inside = CORNER - np.abs(points)
    return np.where((inside >= 0).all(1), inside.min(1), np.linalg.norm(inside.clip(max=0), axis=1))


def test_the_surface_of_exact_depth_lies_on_the_walls(room):
    posed, depth, points = room
    volume = fused(list(depth), posed, 64)
    vertices, faces = triangles(volume)
    error = to_wall(vertices) / volume.voxel
    assert np.median(error) < 0.05
    assert np.quantile(error, 0.99) < 0.5
    near, _ = cKDTree(vertices).query(points[::7])
    assert np.quantile(near, 0.95) < 1.5 * volume.voxel, "what was seen is there"
    corners = vertices[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    inward = -(normals * corners.mean(1)).sum(1)
    assert (inward > 0).mean() > 0.99, "faces look into the room, at the cameras"


def test_a_ball_is_nearer_to_the_truth_with_smaller_voxels():
    """Eight cameras around a unit ball: the error of a curved surface falls as the square."""
    angles = np.arange(8) * np.pi / 4
    poses, depths = np.tile(np.eye(4, dtype=np.float32), (8, 1, 1)), []
    lens = np.array([[120, 0, 64], [0, 120, 64], [0, 0, 1]], np.float32)
    x, y = np.meshgrid(np.arange(128) + 0.5, np.arange(128) + 0.5)
    rays = np.stack([(x - 64) / 120, (y - 64) / 120, np.ones_like(x)], axis=-1)
    squared = (rays**2).sum(-1)
    inside = 9 - 8 * squared  # |t ray - (0, 0, 3)| = 1
    hit = (3 - np.sqrt(inside.clip(0))) / squared
    for pose, angle in zip(poses, angles, strict=True):
        c, s = np.cos(angle), np.sin(angle)
        pose[:3, :3] = [[c, 0, s], [0, 1, 0], [-s, 0, c]]
        pose[:3, 3] = -3 * pose[:3, 2]
        depths.append(np.where(inside > 0, hit, 0).astype(np.float32))
    sizes = np.full((8, 2), 128, np.int32)
    posed = Cameras(poses, np.tile(lens, (8, 1, 1)), sizes, tuple(map(str, range(8))))
    errors = []
    for voxels in (16, 48):
        vertices, _ = triangles(fused(depths, posed, voxels))
        errors.append(np.median(np.abs(np.linalg.norm(vertices, axis=1) - 1)))
    assert errors[1] < 0.003
    assert errors[1] < errors[0] / 4


def test_what_no_view_saw_stays_open(room):
    posed, depth, points = room
    vertices, _ = triangles(fused([depth[0]], posed[:1], 64))
    seen = points[: SIZE[0] * SIZE[1]]
    far, _ = cKDTree(seen).query(vertices)
    assert far.max() < 0.4
    assert len(vertices) > 1000


def test_pixels_at_the_edge_of_a_thing_are_left_out():
    depth = np.full((6, 8), 2, np.float32)
    depth[:, 4:] = 3
    depth[0, 0] = 0
    expected = np.ones((6, 8), bool)
    expected[:, 3:5] = False
    expected[0, 0] = False
    np.testing.assert_array_equal(on_one_surface(depth), expected)


@pytest.mark.parametrize("suffix", ["ply", "obj", "glb"])
def test_a_scene_is_read_as_a_mesh_by_trimesh(scene, tmp_path, suffix):
    path = tmp_path / f"room.{suffix}"
    write_scene(scene, path, format_="mesh", mesh_voxels=64)
    loaded = trimesh.load(path, process=False)
    if suffix == "glb":
        loaded = loaded.to_geometry()
        loaded.apply_transform(np.diag([-1.0, -1, 1, 1]))
    points = np.asarray(loaded.vertices)
    pixel = 3 / FOCAL
    error = to_wall(points) / pixel
    assert np.median(error) < 1
    assert np.quantile(error, 0.95) < 3
    assert len(loaded.faces) > 5000
    colors = np.asarray(loaded.visual.vertex_colors)[:, :3] / 255
    place = points / CORNER
    floor = (place[:, 1] > 0.97) & (np.abs(place[:, [0, 2]]) < 0.9).all(1)
    back = (place[:, 2] > 0.97) & (np.abs(place[:, [0, 1]]) < 0.9).all(1)
    assert floor.sum() > 50
    assert back.sum() > 50
    np.testing.assert_allclose(np.median(colors[floor], axis=0), [0.9, 0.1, 0.1], atol=0.03)
    np.testing.assert_allclose(np.median(colors[back], axis=0), [0.5, 0.5, 0.5], atol=0.03)


def test_what_makes_no_mesh_is_refused(scene, tmp_path):
    with pytest.raises(UsageError, match="no name of a mesh"):
        write(scene, tmp_path / "a.stl")
    with pytest.raises(UsageError, match="no cameras"):
        write(replace(scene, cameras=None), tmp_path / "a.obj")
    with pytest.raises(UsageError, match="too large"):
        write(scene, tmp_path / "a.obj", mesh_voxels=4000)
    with pytest.raises(UsageError, match="cannot show"):
        write(scene, tmp_path / "a.obj", mesh_voxels=2)
    away = scene.cameras.world_from_camera.copy()
    away[:, :3, 3] += 100
    lost = replace(scene, cameras=replace(scene.cameras, world_from_camera=away))
    with pytest.raises(UsageError, match="no camera sees"):
        write(lost, tmp_path / "a.obj")
    (tmp_path / "a.obj").write_text("mine")
    with pytest.raises(OutputError, match="already exists"):
        write(scene, tmp_path / "a.obj", mesh_voxels=32)
