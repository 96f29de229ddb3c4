"""Merging: a scene taken apart comes back, and nothing of a scene that says less is made up."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from small_room import small_room

from ffsplat.alignment import Similarity
from ffsplat.edit import Label, merge, select
from ffsplat.edit.joining import join_two
from ffsplat.errors import UsageError
from ffsplat.types import NO_ID, Scene
from tests.edit.walks import TRUTH, moved, walk

EVEN = np.arange(1000) % 2 == 0


def tilted() -> Scene:
    """The room with colours that depend on the direction, Gaussians that are turned, cameras."""
    room, random = small_room(), np.random.default_rng(2)
    sh = np.concatenate([room.gaussians.sh, 0.1 * random.normal(size=(1000, 8, 3))], axis=1)
    gaussians = replace(
        room.gaussians,
        scales=random.uniform(0.01, 0.05, (1000, 3)).astype(np.float32),
        quaternions_wxyz=Rotation.random(1000, rng=random).as_quat(scalar_first=True).astype("f4"),
        sh=sh.astype(np.float32),
    )
    return replace(room, gaussians=gaussians, cameras=walk(6))


def halves(scene: Scene) -> tuple[Scene, Scene]:
    """The even Gaussians, and the odd ones in another world with objects of other numbers."""
    assert scene.cameras is not None
    odd = moved(scene[~EVEN])
    assert odd.cameras is not None
    assert odd.instances is not None
    odd = replace(odd, cameras=odd.cameras[2:], instances=(2 - odd.instances).astype(np.int32))
    return replace(scene[EVEN], cameras=scene.cameras[:5]), odd


def assert_same(found: Scene, truth: Scene, tolerance: float = 1e-4):
    for name in ("means", "scales", "opacities", "sh"):
        np.testing.assert_allclose(
            getattr(found.gaussians, name), getattr(truth.gaussians, name), atol=tolerance
        )
    dots = (found.gaussians.quaternions_wxyz * truth.gaussians.quaternions_wxyz).sum(1)
    np.testing.assert_allclose(np.abs(dots), 1, atol=tolerance)
    assert found.codes is not None
    assert truth.codes is not None
    for name, value in vars(truth.codes).items():
        np.testing.assert_array_equal(getattr(found.codes, name), value)
    np.testing.assert_array_equal(found.instances, truth.instances)


def test_a_scene_in_two_worlds_is_whole_again():
    scene = tilted()
    merged = merge(halves(scene))
    order = np.concatenate([np.flatnonzero(EVEN), np.flatnonzero(~EVEN)])
    assert_same(merged.scene, scene[order])
    (placed,) = merged.placed
    assert placed is not None
    assert placed.names == ("photo_2.jpg", "photo_3.jpg", "photo_4.jpg")
    assert merged.scene.cameras is not None
    assert scene.cameras is not None
    assert merged.scene.cameras.names == scene.cameras.names
    np.testing.assert_allclose(
        merged.scene.cameras.world_from_camera, scene.cameras.world_from_camera, atol=1e-4
    )
    assert merged.scene.codebook is not None
    assert scene.codebook is not None
    assert merged.scene.codebook.names == scene.codebook.names


def test_a_given_transform_needs_no_cameras():
    scene = tilted()
    first, second = (replace(half, cameras=None) for half in halves(scene))
    merged = merge([first, second], [TRUTH])
    order = np.concatenate([np.flatnonzero(EVEN), np.flatnonzero(~EVEN)])
    assert_same(merged.scene, scene[order])
    assert merged.placed == (None,)
    assert merged.scene.cameras is None


def test_scenes_are_placed_by_what_is_joined_before_them():
    scene = tilted()
    assert scene.cameras is not None
    first = replace(scene[:300], cameras=scene.cameras[:2])
    far = replace(scene[500:], cameras=scene.cameras[4:])  # shares photos with the middle alone
    middle = replace(scene[300:500], cameras=scene.cameras)
    merged = merge([first, moved(far), middle])
    np.testing.assert_allclose(merged.scene.gaussians.means, scene.gaussians.means, atol=1e-4)
    assert [len(one.names) for one in merged.placed if one is not None] == [2, 2]


def test_voxels_make_one_gaussian_of_two():
    scene = tilted()
    merged = merge([scene, moved(scene)], voxel=0.003)
    assert len(merged.scene) < 1200  # nearly every Gaussian meets itself
    assert len(merge([scene, moved(scene)]).scene) == 2000


def test_objects_that_do_not_meet_get_new_numbers():
    scene = tilted()
    away = Similarity(1.0, np.eye(3), np.array([50.0, 0, 0]))
    merged = merge([scene, scene], [away])
    assert merged.scene.instances is not None
    assert merged.scene.instances[:1000].max() == 2
    assert set(merged.scene.instances[1000:].tolist()) == {3, 4, 5}


def test_what_one_scene_does_not_say_stays_unknown():
    rich = small_room()
    bare = replace(rich, codes=None, codebook=None, instances=None, provenance={})
    for pair, known in (((rich, bare), slice(0, 1000)), ((bare, rich), slice(1000, 2000))):
        joined, _, _ = join_two(*pair)
        assert joined.codes is not None
        assert rich.codes is not None
        assert joined.instances is not None
        unknown = np.ones(2000, bool)
        unknown[known] = False
        np.testing.assert_array_equal(joined.codes.ids[known], rich.codes.ids)
        assert (joined.codes.ids[unknown] == NO_ID).all()
        assert (joined.instances[unknown] == NO_ID).all()
        assert (joined.instances[known] != NO_ID).all()
        assert joined.codebook is rich.codebook
    joined, _, _ = join_two(bare, bare)
    assert (joined.codes, joined.codebook, joined.instances) == (None, None, None)


def test_narrow_codes_poor_colours_and_single_opacities_are_padded():
    rich, poor = tilted(), small_room()
    assert poor.codes is not None
    code = replace(poor.codes, ids=poor.codes.ids[:, :1], weights=poor.codes.weights[:, :1])
    meant = replace(rich.gaussians, meaning_opacities=rich.gaussians.opacities / 2)
    joined, _, _ = join_two(replace(poor, codes=code), replace(rich, gaussians=meant))
    assert joined.codes is not None
    assert joined.codes.ids.shape == (2000, 4)
    assert joined.gaussians.sh.shape == (2000, 9, 3)
    assert not joined.gaussians.sh[:1000, 1:].any()
    np.testing.assert_array_equal(
        joined.gaussians.opacities_of_meaning,
        np.concatenate([poor.gaussians.opacities, meant.opacities / 2]),
    )


def test_the_scene_says_what_all_of_them_said_of_themselves():
    first, second = tilted(), tilted()
    second = replace(second, provenance={"model": "other", "license": "CC0-1.0", "note": "x"})
    merged = merge([first, second])
    assert merged.scene.provenance == {
        "model": "stand-in + other", "license": "CC0-1.0", "note": "x", "merged": "2 scenes"
    }  # fmt: skip


def test_too_few_scenes_or_transforms_are_refused():
    scene = tilted()
    with pytest.raises(UsageError, match="nothing to merge"):
        merge([scene])
    with pytest.raises(UsageError, match="2 transforms for 2"):
        merge([scene, scene], [Similarity.identity()] * 2)
    with pytest.raises(UsageError, match="share no photos"):
        merge([scene, replace(scene, cameras=None)])
    for side in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(UsageError, match="no cells of side"):
            merge([scene, scene], [Similarity.identity()], voxel=side)


def test_rows_of_both_codebooks_say_what_they_said():
    first = Label("piano").apply(tilted(), EVEN)
    second = Label("harp").apply(Label("couch").apply(tilted(), EVEN), ~EVEN)
    joined, completed, dropped = join_two(first, second)
    assert joined.codebook is not None
    assert joined.codes is not None
    assert first.codebook is not None
    assert joined.codebook.names == (*first.codebook.names, "couch", "harp")
    names = np.array([*joined.codebook.names, ""])[joined.codes.ids[:, 0]]
    assert (names[:1000][EVEN] == "piano").all()
    assert (names[1000:][EVEN] == "couch").all()
    assert (names[1000:][~EVEN] == "harp").all()
    assert (completed, dropped) == ((), ())
    np.testing.assert_array_equal(select(joined, "sofa")[1000:], EVEN)
