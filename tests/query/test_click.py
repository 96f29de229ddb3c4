from dataclasses import replace

import numpy as np
import pytest
from small_room import small_room

from ffsplat import codes
from ffsplat.errors import UsageError
from ffsplat.query.click import Picked, along_ray, click
from ffsplat.render.contributors import contributors
from ffsplat.render.picking import pick
from ffsplat.types import Cameras, Gaussians


@pytest.fixture(scope="module")
def room():
    """The table's first half is its tabletop, the rest its legs."""
    made = small_room(1000)
    names = made.codebook.names
    part = np.full(1000, names.index("body"))
    part[:150], part[150:300] = names.index("tabletop"), names.index("leg")
    part[300:400] = names.index("leg")  # of the sofa
    ids = np.stack([made.codes.ids[:, 0], part], axis=1)
    return replace(made, codes=codes.from_pairs(ids, np.full(ids.shape, 0.5)))


def found(scene, picked, what, **options):
    result = click(scene, picked, what, **options)
    return np.flatnonzero(result.scores >= result.threshold).tolist()


def test_a_click_takes_the_whole_instance(room):
    assert found(room, Picked.of(10), "instance") == list(range(300))
    hit = click(room, Picked.of(10)).hits[0]
    assert (hit.name, hit.instance, hit.count) == ("table", 0, 300)


def test_the_instance_that_makes_most_of_the_pixel_is_meant(room):
    rows, weights = np.array([10, 320, 330]), np.array([0.4, 0.35, 0.2], np.float32)
    assert found(room, Picked(rows, weights), "instance") == list(range(300, 500))


def test_a_click_on_a_leg_takes_the_legs_of_that_table(room):
    assert found(room, Picked.of(200), "part") == list(range(150, 300))
    assert click(room, Picked.of(200), "part").hits[0].name == "leg"


def test_without_instances_parts_are_taken_everywhere(room):
    assert found(replace(room, instances=None), Picked.of(200), "part") == list(range(150, 400))


def test_a_click_takes_what_has_the_same_row_or_nearly_the_same_code(room):
    assert found(room, Picked.of(10), "row") == list(range(300))
    assert found(room, Picked.of(10), "code") == list(range(150))
    assert found(room, Picked.of(10), "code", likeness=0.49) == list(range(300))  # cosine one half


def test_a_scene_without_codes_has_instances_to_click_on(room):
    bare = replace(room, codes=None, codebook=None)
    hit = click(bare, Picked.of(10)).hits[0]
    assert (hit.instance, hit.count) == (0, 300)
    assert hit.minimum == pytest.approx(bare.gaussians.means[:300].min(axis=0))


def test_what_cannot_be_clicked_is_refused(room):
    nothing = Picked(np.zeros(0, np.int64), np.zeros(0, np.float32))
    with pytest.raises(UsageError, match="nothing where you point"):
        click(room, nothing)
    with pytest.raises(UsageError, match="of no instance"):
        click(replace(room, instances=None), Picked.of(1))
    with pytest.raises(UsageError, match="cannot click on"):
        click(room, Picked.of(1), "color")
    unknown = codes.from_pairs(np.full((1000, 1), -1), np.zeros((1000, 1)))
    for what, message in (("code", "nothing is known"), ("row", "no whole"), ("part", "no part")):
        with pytest.raises(UsageError, match=message):
            click(replace(room, codes=unknown), Picked.of(1), what)


def line_of(*depths, opacity=0.5, scale=0.1):
    """Round Gaussians on the axis of view."""
    count = len(depths)
    return Gaussians(
        np.array([[0, 0, z] for z in depths], np.float32),
        np.full((count, 3), scale, np.float32),
        np.tile(np.array([1, 0, 0, 0], np.float32), (count, 1)),
        np.full(count, opacity, np.float32),
        np.zeros((count, 1, 3), np.float32),
    )


AHEAD = np.array([0, 0, 1.0])


def test_a_ray_meets_gaussians_front_to_back():
    picked = along_ray(line_of(3, 1, 2, -1), np.zeros(3), AHEAD * 7)
    assert picked.rows.tolist() == [1, 2, 0]
    assert picked.weights == pytest.approx([0.5, 0.25, 0.125])


def test_a_ray_that_passes_beside_counts_by_its_least_distance():
    aside = along_ray(line_of(2), np.array([0.1, 0, 0]), AHEAD)
    assert aside.weights == pytest.approx([0.5 * np.exp(-0.5)])
    assert len(along_ray(line_of(2), np.array([0.5, 0, 0]), AHEAD).rows) == 0


def test_a_turned_needle_is_met_along_its_length():
    needle = line_of(2)
    turned = replace(
        needle,
        scales=np.array([[1.0, 0.01, 0.01]], np.float32),
        quaternions_wxyz=np.array([[2**-0.5, 0, 0, 2**-0.5]], np.float32),  # x becomes y
    )
    origin = np.array([0, 1.0, 0])
    assert along_ray(turned, origin, AHEAD).weights == pytest.approx([0.5 * np.exp(-0.5)])
    assert len(along_ray(turned, origin[[1, 0, 2]], AHEAD).rows) == 0


def test_a_ray_without_direction_is_refused():
    with pytest.raises(UsageError, match="direction"):
        along_ray(line_of(2), np.zeros(3), np.zeros(3))


CAMERA = Cameras(
    np.eye(4, dtype=np.float32)[None],
    np.array([[[60, 0, 32], [0, 60, 24], [0, 0, 1]]], np.float32),
    np.array([[64, 48]], np.int32),
    ("photo",),
)


def test_a_pixel_shows_what_its_picture_says(room):
    whole = contributors(room.gaussians, CAMERA, 0)
    for x, y in ((32, 24), (61, 25), (35, 20)):
        picked = pick(room.gaussians, CAMERA, 0, x + 0.4, y + 0.7)
        seen = dict(zip(whole.gaussians[y, x].tolist(), whole.weights[y, x], strict=True))
        for row, weight in zip(picked.rows.tolist(), picked.weights, strict=True):
            assert seen.get(row, 0) == pytest.approx(weight, abs=0.01)
        assert picked.weights.sum() == pytest.approx(whole.weights[y, x].sum(), abs=0.01)


def test_a_click_into_the_picture_finds_the_thing_that_it_shows(room):
    assert found(room, pick(room.gaussians, CAMERA, 0, 32, 24), "instance") == list(range(300))
    ray = along_ray(room.gaussians, np.zeros(3), np.array([1.0, 0, 2]))
    assert found(room, ray, "instance") == list(range(300, 500))


def test_a_pixel_outside_of_the_picture_is_refused(room):
    with pytest.raises(UsageError, match="outside"):
        pick(room.gaussians, CAMERA, 0, 64, 3)
    with pytest.raises(UsageError, match="no camera 1"):
        pick(room.gaussians, CAMERA, 1, 4, 3)
