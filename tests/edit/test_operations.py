"""Operations: what goes, what stays bit for bit, and what a change looks like when rendered."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from small_room import small_room

import ffsplat.edit
from ffsplat.alignment import Similarity
from ffsplat.edit import Extract, Move, Remove, similarity_of, turn_of
from ffsplat.edit.moving import about, center_of
from ffsplat.errors import UsageError
from ffsplat.render import render
from ffsplat.render.spherical import sh_colors
from ffsplat.types import Cameras, Gaussians, Scene


def colorful(seed: int = 0, count: int = 300) -> Scene:
    """A cloud of long Gaussians whose colours depend on the direction, degree 3."""
    random = np.random.default_rng(seed)
    gaussians = Gaussians(
        (random.normal(size=(count, 3)) * 0.5 + [0, 0, 3]).astype(np.float32),
        random.uniform(0.02, 0.2, (count, 3)).astype(np.float32),
        Rotation.random(count, rng=random).as_quat(scalar_first=True).astype(np.float32),
        random.uniform(0.3, 0.95, count).astype(np.float32),
        (random.normal(size=(count, 16, 3)) * 0.2).astype(np.float32),
    )
    return Scene(gaussians)


def camera(size: int = 48) -> Cameras:
    lens = np.array([[size, 0, size / 2], [0, size, size / 2], [0, 0, 1]], np.float32)
    return Cameras(
        np.eye(4, dtype=np.float32)[None], lens[None], np.array([[size, size]], np.int32), ("a",)
    )


def drawn(seed: int) -> Similarity:
    random = np.random.default_rng(seed)
    turn = Rotation.random(rng=random).as_matrix()
    return Similarity(float(random.uniform(0.5, 2)), turn, random.normal(size=3))


def arrays(scene: Scene) -> list[np.ndarray]:
    code = scene.codes
    assert code is not None
    return [*(a for a in vars(scene.gaussians).values() if a is not None), *vars(code).values()]


def test_every_public_name_is_there():
    assert sorted(ffsplat.edit.__all__) == ffsplat.edit.__all__
    for name in ffsplat.edit.__all__:
        assert getattr(ffsplat.edit, name).__doc__
    with pytest.raises(AttributeError):
        getattr(ffsplat.edit, "Fill")  # noqa: B009 - the name is not there


def test_what_is_removed_and_what_is_extracted_is_the_scene():
    room = small_room()
    chosen = np.random.default_rng(1).random(len(room)) < 0.3
    rest, part = Remove().apply(room, chosen), Extract().apply(room, chosen)
    assert len(rest) + len(part) == len(room)
    for whole, left, right in zip(arrays(room), arrays(rest), arrays(part), strict=True):
        np.testing.assert_array_equal(whole[~chosen], left)
        np.testing.assert_array_equal(whole[chosen], right)


def test_all_that_moves_with_its_camera_looks_the_same():
    scene, similarity = colorful(), drawn(3)
    everything = np.ones(len(scene), bool)
    moved = Move(similarity).apply(scene, everything)
    before = render(scene, camera(), backend="reference")
    after = render(moved, similarity.cameras(camera()), backend="reference")
    assert before.max() > 0.5
    np.testing.assert_allclose(after, before, atol=2e-3)


def test_what_is_not_chosen_does_not_move():
    scene = colorful()
    chosen = np.arange(len(scene)) % 3 == 0
    moved = Move(drawn(4)).apply(scene, chosen)
    for name in ("means", "scales", "quaternions_wxyz", "sh"):
        old, new = getattr(scene.gaussians, name), getattr(moved.gaussians, name)
        np.testing.assert_array_equal(new[~chosen], old[~chosen])
        assert (new[chosen] != old[chosen]).any()
    assert moved.gaussians.opacities is scene.gaussians.opacities


def test_a_colour_seen_from_a_direction_turns_with_its_gaussian():
    scene, similarity = colorful(), drawn(5)
    moved = Move(similarity).apply(scene, np.ones(len(scene), bool))
    directions = np.random.default_rng(0).normal(size=(len(scene), 3)).astype(np.float32)
    turned = (directions @ similarity.rotation.T).astype(np.float32)
    np.testing.assert_allclose(
        sh_colors(moved.gaussians.sh, turned), sh_colors(scene.gaussians.sh, directions), atol=1e-5
    )


def test_a_turn_about_the_centre_keeps_it():
    scene = colorful()
    chosen = np.arange(len(scene)) < 100
    quarter = Similarity(2.0, Rotation.from_euler("y", 90, degrees=True).as_matrix(), np.zeros(3))
    moved = Move(quarter, "center").apply(scene, chosen)
    middle = center_of(scene.gaussians[chosen])
    np.testing.assert_allclose(center_of(moved.gaussians[chosen]), middle, atol=1e-5)
    # By hand: a quarter about y takes x to -z and z to x; the scale doubles.
    offset = scene.gaussians.means[chosen] - middle
    expected = middle + 2 * np.stack([offset[:, 2], offset[:, 1], -offset[:, 0]], 1)
    np.testing.assert_allclose(moved.gaussians.means[chosen], expected, atol=1e-5)
    np.testing.assert_allclose(moved.gaussians.scales[chosen], 2 * scene.gaussians.scales[chosen])


@pytest.mark.parametrize("degrees", [[0.0, 0, 0], [0, 90, 0], [30, -200, 10]])
def test_turns_are_those_of_scipy(degrees):
    expected = Rotation.from_rotvec(degrees, degrees=True).as_matrix()
    found = turn_of(np.array(degrees, np.float64))
    np.testing.assert_allclose(found.rotation, expected, atol=1e-9)
    assert (found.scale, found.translation.tolist()) == (1, [0, 0, 0])


def test_a_place_is_the_fixed_point_of_a_turn_about_it():
    place = np.array([1.0, 2, 3])
    still = replace(drawn(1), translation=np.zeros(3))
    np.testing.assert_allclose(about(still, place).points(place), place, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_a_matrix_becomes_the_similarity_it_stands_for(seed):
    truth = drawn(seed)
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = truth.scale * truth.rotation, truth.translation
    found = similarity_of(matrix)
    assert found.scale == pytest.approx(truth.scale)
    np.testing.assert_allclose(found.rotation, truth.rotation, atol=1e-12)
    np.testing.assert_array_equal(found.translation, truth.translation)


@pytest.mark.parametrize(
    ("matrix", "told"),
    [
        (np.diag([1.0, 1, -1, 1]), "mirrors"),
        (np.diag([1.0, 1, 0, 1]), "flattens"),
        (np.diag([1.0, 2, 1, 1]), "stretches"),
        (np.eye(4) + np.eye(4, k=1) * [[1], [0], [0], [0]], "shears"),
        (np.eye(4) * np.nan, "NaN or infinity"),
        (np.diag([1.0, 1, 1, 2]), "affine"),
    ],
)
def test_other_matrices_are_refused(matrix, told):
    with pytest.raises(UsageError, match=told):
        similarity_of(matrix)


@pytest.mark.parametrize("scale", [np.nan, np.inf, 0.0, -1.0])
def test_a_move_has_a_scale(scale):
    with pytest.raises(UsageError, match="no move"):
        Move(Similarity(scale, np.eye(3), np.zeros(3)))
    with pytest.raises(UsageError, match="no move"):
        Move(Similarity(1.0, np.eye(3), np.array([0, np.nan, 0])))


def test_nothing_chosen_changes_nothing():
    scene, nothing = small_room(), np.zeros(1000, bool)
    assert Move(drawn(0)).apply(scene, nothing) is scene
    assert len(Remove().apply(scene, nothing)) == 1000
