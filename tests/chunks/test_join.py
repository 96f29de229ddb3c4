"""Joining scenes: nothing is lost, objects go on, and the bound holds."""

from dataclasses import replace

import numpy as np
import pytest
from small_room import small_room

from ffsplat import codes
from ffsplat.chunks import join
from ffsplat.chunks.join import Bound, join_scenes, keep_within, link_instances, number_by_size
from ffsplat.types import NO_ID, Cameras, Codebook, Scene

CELL = 0.1


def cameras(*names: str) -> Cameras:
    count = len(names)
    eye = np.tile(np.eye(4, dtype=np.float32), (count, 1, 1))
    return Cameras(eye, eye[:, :3, :3], np.ones((count, 2), np.int32), names)


def part(scene: Scene, rows) -> Scene:
    """Some Gaussians of a scene whose objects got numbers of their own."""
    scene = scene[rows]
    return replace(scene, instances=(2 - scene.instances).astype(np.int32))


def test_a_scene_in_two_halves_is_whole_again():
    room = small_room()
    a, b = (replace(room[half::2], cameras=cameras(str(half))) for half in (0, 1))
    joined = join_scenes(a, b, CELL)
    order = np.concatenate([np.arange(1000)[::2], np.arange(1000)[1::2]])
    for name, value in vars(room.gaussians).items():
        if value is not None:
            np.testing.assert_array_equal(getattr(joined.gaussians, name), value[order])
    np.testing.assert_array_equal(joined.codes.ids, room.codes.ids[order])
    np.testing.assert_array_equal(joined.codes.weights, room.codes.weights[order])
    np.testing.assert_array_equal(joined.codes.norms, room.codes.norms[order])
    np.testing.assert_array_equal(joined.instances, room.instances[order])
    assert joined.cameras.names == ("0", "1")
    assert joined.codebook is room.codebook
    assert joined.provenance == room.provenance


def test_objects_go_on_under_their_number():
    room = small_room()
    linked = link_instances(room[::2], part(room, slice(1, None, 2)), CELL)
    np.testing.assert_array_equal(linked, room.instances[1::2])


def test_objects_that_touch_only_at_a_border_go_on():
    """One pass saw the left of the wall, the next the right of it; 10 cm of it were in both."""
    room = small_room(4000)
    x = room.gaussians.means[:, 0]
    a, b = room[x < 0.55], part(room, x > 0.45)
    linked = link_instances(a, b, CELL)
    wall = b.instances == 2 - 2
    assert set(linked[wall]) == {2}
    # The sofa is all in b, the table all in a: the sofa is new, behind the largest number of a.
    assert min(linked[b.instances == 2 - 1]) > 2


def test_another_thing_in_the_same_place_is_another_object():
    room = small_room()
    changed = replace(
        room, codes=replace(room.codes, ids=np.where(room.codes.ids >= 0, 3, -1).astype(np.int16))
    )
    assert 3 not in room.codes.ids
    linked = link_instances(room, changed, CELL)
    assert set(linked) == {3, 4, 5}


def test_a_sample_of_large_scenes_is_enough(monkeypatch):
    monkeypatch.setattr(join, "SAMPLE", 400)
    room = small_room(4000)
    linked = link_instances(room[::2], part(room, slice(1, None, 2)), CELL)
    np.testing.assert_array_equal(linked, room.instances[1::2])


def test_what_is_apart_or_unknown_stays_so():
    room = small_room()
    away = replace(room.gaussians, means=room.gaussians.means + np.float32(50))
    linked = link_instances(room, replace(room, gaussians=away), CELL)
    np.testing.assert_array_equal(linked, room.instances + 3)
    unknown = replace(room, instances=np.full(1000, NO_ID, np.int32))
    assert set(link_instances(room, unknown, CELL)) == {NO_ID}
    np.testing.assert_array_equal(link_instances(unknown, room, CELL), room.instances)
    empty = room[:0]
    assert len(link_instances(room, empty, CELL)) == 0
    np.testing.assert_array_equal(link_instances(empty, room, CELL), room.instances)


def test_codebooks_of_their_own_are_joined():
    room = small_room()
    book = room.codebook
    order = np.arange(len(book))[::-1]
    turned = Codebook(
        tuple(book.names[i] for i in order), book.levels[order], book.parents[order],
        book.counts[order], {name: rows[order] for name, rows in book.spaces.items()},
    )  # fmt: skip
    rows = np.argsort(order).astype(np.int16)
    other = replace(room, codebook=turned, codes=codes.remap(room.codes, rows))
    joined = join_scenes(room, other, CELL)
    assert joined.codebook.names == book.names
    np.testing.assert_array_equal(joined.codes.ids[1000:], room.codes.ids)
    np.testing.assert_array_equal(joined.instances[1000:], room.instances)


def test_harmonics_of_fewer_degrees_are_padded():
    room = small_room(10)
    rich = replace(room.gaussians, sh=np.ones((10, 4, 3), np.float32))
    joined = join_scenes(room, replace(room, gaussians=rich), CELL)
    assert joined.gaussians.sh.shape == (20, 4, 3)
    assert (joined.gaussians.sh[:10, 1:] == 0).all()


def test_a_small_scene_is_left_alone():
    room = small_room()
    assert keep_within(room, Bound(), 0.01)[0] is room


@pytest.mark.parametrize("most", [900, 100])
def test_cells_are_merged_beyond_the_bound(most):
    room, bound = small_room(), Bound(most=most)
    thin, used = keep_within(room, bound, 0.001)
    assert len(thin) <= 0.7 * most
    assert used.automatic >= 0.001
    assert used.cell == used.automatic
    # The next time it starts from there.
    again, later = keep_within(join_scenes(thin, room, CELL), used, 0.001)
    assert len(again) <= 0.7 * most
    assert later.automatic >= used.automatic
    # What is left is still the room.
    np.testing.assert_allclose(
        again.gaussians.means.mean(0), room.gaussians.means.mean(0), atol=0.5
    )
    assert set(again.instances) <= {0, 1, 2}


def test_what_the_user_chose_holds():
    room = small_room()
    chosen = Bound(voxel=0.1)
    assert keep_within(room, chosen, 0.01)[0] is room  # there may be more to merge with
    merged, bound = keep_within(room, chosen, 0.01, last=True)
    assert 10 < len(merged) < 1000
    assert len(keep_within(room, replace(chosen, most=900), 0.01)[0]) == len(merged)
    assert bound.cell == 0.1
    assert bound.automatic == 0
    opacities = np.random.default_rng(0).permutation(1000).astype(np.float32) / 1000
    room = replace(room, gaussians=replace(room.gaussians, opacities=opacities))
    kept, _ = keep_within(room, Bound(max_gaussians=30), 0.01)
    assert sorted(kept.gaussians.opacities) == sorted(opacities)[-30:]


def test_objects_are_numbered_by_size():
    room = small_room()
    shuffled = replace(room, instances=np.array([7, NO_ID, 4])[room.instances].astype(np.int32))
    numbers = number_by_size(shuffled).instances
    np.testing.assert_array_equal(numbers, np.array([1, NO_ID, 0])[room.instances])
