"""COLMAP models, read back by COLMAP itself (pycolmap)."""

from dataclasses import replace

import numpy as np
import pytest
from posedroom import posed_room

from ffsplat.errors import OutputError, SceneFileError, UsageError
from ffsplat.formats import colmap, read_scene, write_scene
from ffsplat.formats.cameras import quaternions_wxyz, resized, rotations

pycolmap = pytest.importorskip("pycolmap")


@pytest.fixture(scope="module")
def room():
    return posed_room()


@pytest.fixture(scope="module")
def folder(room, tmp_path_factory):
    path = tmp_path_factory.mktemp("colmap") / "model"
    write_scene(room, path, format_="colmap")
    return path


def by_name(model):
    return {image.name: image for image in model.images.values()}


def test_colmap_reads_the_same_poses_and_lenses(room, folder):
    images = by_name(pycolmap.Reconstruction(folder))
    assert set(images) == set(room.cameras.names)
    assert len({image.camera_id for image in images.values()}) == 2, "one record a lens"
    for index, name in enumerate(room.cameras.names):
        image, pose = images[name], room.cameras.world_from_camera[index]
        read = np.vstack([image.cam_from_world().matrix(), [0, 0, 0, 1]])
        np.testing.assert_allclose(read @ pose, np.eye(4), atol=1e-5)
        np.testing.assert_allclose(
            image.camera.calibration_matrix(), room.cameras.intrinsics[index], atol=1e-5
        )
        assert [image.camera.width, image.camera.height] == room.cameras.sizes[index].tolist()


def test_colmap_projects_points_where_we_say_they_are_seen(room, folder):
    model = pycolmap.Reconstruction(folder)
    assert model.is_valid()
    seen = 0
    for image in model.images.values():
        for point2d in image.points2D:
            projected = image.project_point(model.points3D[point2d.point3D_id].xyz)
            np.testing.assert_allclose(projected, point2d.xy, atol=1e-3)
            seen += 1
    assert seen > len(room) / 2


def test_points_are_the_gaussians_with_their_colours(room, folder):
    points = pycolmap.Reconstruction(folder).points3D
    assert len(points) == len(room)
    for row in (0, 17, len(room) - 1):
        point = points[row + 1]
        np.testing.assert_array_equal(point.xyz, room.gaussians.means[row].astype(float))
        np.testing.assert_allclose(point.color / 255, room.gaussians.colors[row], atol=0.5 / 255)
        assert point.error == -1, "nothing was measured"


def test_the_wall_is_not_seen_through_the_table(room, folder):
    """The first camera looks past the table at the wall: tracks keep what is in front."""
    model = pycolmap.Reconstruction(folder)
    tracks = [{e.image_id for e in model.points3D[row + 1].track.elements} for row in range(300)]
    depth = room.render(room.cameras[[0]], "depth")[0]
    pose, lens = room.cameras.world_from_camera[0], room.cameras.intrinsics[0]
    hidden = 0
    for row, mean in enumerate(room.gaussians.means):
        x, y, z = pose[:3, :3].T @ (mean - pose[:3, 3])
        u, v = lens[0, 0] * x / z + lens[0, 2], lens[1, 1] * y / z + lens[1, 2]
        inside = z > 0 and 0 <= u < 48 and 0 <= v < 36
        if inside and z > 1.1 * depth[int(v), int(u)] > 0:
            assert 1 not in tracks[row]
            hidden += 1
    assert hidden > 20


def test_large_views_are_rendered_small_and_their_pixels_are_large(room, folder, tmp_path):
    large = resized(room.cameras, 30 * room.cameras.sizes)
    colmap.write(replace(room, cameras=large), tmp_path / "large")
    model = pycolmap.Reconstruction(tmp_path / "large")
    before = pycolmap.Reconstruction(folder).compute_num_observations()
    assert before <= model.compute_num_observations() < 3 * before, "finer depth hides less"
    image = by_name(model)[room.cameras.names[1]]
    for point2d in image.points2D:
        projected = image.project_point(model.points3D[point2d.point3D_id].xyz)
        np.testing.assert_allclose(projected, point2d.xy, atol=0.03)


def test_text_and_binary_say_the_same(room, folder, tmp_path):
    colmap.write(room, tmp_path / "text", colmap_files="txt")
    text, binary = pycolmap.Reconstruction(tmp_path / "text"), pycolmap.Reconstruction(folder)
    assert text.num_points3D() == binary.num_points3D()
    for number, point in binary.points3D.items():
        np.testing.assert_array_equal(text.points3D[number].xyz, point.xyz)
        assert text.points3D[number].track == point.track
    for number, image in binary.images.items():
        other = text.images[number]
        np.testing.assert_allclose(
            image.cam_from_world().matrix(), other.cam_from_world().matrix(), atol=1e-12
        )
        np.testing.assert_array_equal(
            [p.xy for p in image.points2D], [p.xy for p in other.points2D]
        )


@pytest.mark.parametrize("kind", ["bin", "txt"])
def test_a_model_comes_back_as_cameras_and_small_gaussians(room, tmp_path, kind):
    colmap.write(room, tmp_path / "model", colmap_files=kind, tracks=False)
    back = read_scene(tmp_path / "model", format_="colmap")
    np.testing.assert_array_equal(back.gaussians.means, room.gaussians.means)
    np.testing.assert_allclose(back.gaussians.colors, room.gaussians.colors, atol=0.6 / 255)
    np.testing.assert_allclose(
        back.cameras.world_from_camera, room.cameras.world_from_camera, atol=2e-6
    )
    np.testing.assert_array_equal(back.cameras.intrinsics, room.cameras.intrinsics)
    assert back.cameras.names == room.cameras.names
    centres = room.cameras.world_from_camera[:, :3, 3]
    nearest = np.linalg.norm(room.gaussians.means[:, None] - centres, axis=2) / 41
    assert (back.gaussians.scales[:, 0] < nearest.min(1) * 1.1).all()


def test_what_colmap_writes_is_read(folder, tmp_path):
    """A model with rigs and frames, as COLMAP 4 saves it."""
    pycolmap.Reconstruction(folder).write(tmp_path)
    theirs, ours = colmap.read(tmp_path), colmap.read(folder)
    order = [theirs.cameras.names.index(name) for name in ours.cameras.names]
    np.testing.assert_allclose(
        theirs.cameras[order].world_from_camera, ours.cameras.world_from_camera, atol=1e-6
    )
    assert len(theirs) == len(ours)


def test_a_scene_without_cameras_is_refused(room, tmp_path):
    with pytest.raises(UsageError, match="no cameras"):
        colmap.write(replace(room, cameras=None), tmp_path / "out")


def test_faint_gaussians_are_left_out(room, tmp_path):
    opacities = room.gaussians.opacities.copy()
    opacities[5:] = 0.05
    faint = replace(room, gaussians=replace(room.gaussians, opacities=opacities))
    colmap.write(faint, tmp_path / "out", tracks=False)
    assert pycolmap.Reconstruction(tmp_path / "out").num_points3D() == 5


def test_names_and_lenses_that_do_not_fit_are_refused(room, tmp_path):
    twice = replace(room.cameras, names=("a.jpg",) * 3)
    with pytest.raises(OutputError, match="unique"):
        colmap.write(replace(room, cameras=twice), tmp_path / "out", tracks=False)
    colmap.write(room, tmp_path / "out", tracks=False, colmap_files="txt")
    cameras = tmp_path / "out" / "cameras.txt"
    cameras.write_text("1 SIMPLE_RADIAL 48 36 40 24 18 0.1\n2 PINHOLE 48 36 1 1 1 1\n")
    with pytest.raises(SceneFileError, match="distorted SIMPLE_RADIAL"):
        colmap.read(tmp_path / "out")
    cameras.write_text("1 PINHOLE 48 36 40 41 24 18\n2 PINHOLE 48 36 40 41 24 18\n")
    (tmp_path / "out" / "images.txt").write_text("1 1 0 0 0 0 0 1e300 1 a.jpg\n\n")
    with pytest.raises(SceneFileError, match="without a pose"):
        colmap.read(tmp_path / "out")
    with pytest.raises(SceneFileError, match="holds no COLMAP model"):
        colmap.read(tmp_path)


def test_quaternions_turn_as_their_matrices_do():
    random = np.random.default_rng(1).normal(size=(50, 4))
    random /= np.linalg.norm(random, axis=1, keepdims=True)
    random[:3] = [[0, 1, 0, 0], [0, 0, 0, 1], [1, 0, 0, 0]]
    found = quaternions_wxyz(rotations(random))
    assert (found[:, 0] >= 0).all()
    np.testing.assert_allclose(np.abs((found * random).sum(1)), 1, atol=1e-12)
    for q in random[:10]:
        theirs = pycolmap.Rotation3d(q[[1, 2, 3, 0]]).matrix()
        np.testing.assert_allclose(rotations(q[None])[0], theirs, atol=1e-12)
