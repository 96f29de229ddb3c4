import numpy as np
import pytest
from small_room import small_room

from ffsplat.errors import UsageError
from ffsplat.grouping import Clustering, super_gaussians
from ffsplat.grouping.methods import GROUPINGS, Carried, Pieces, grouping_named
from ffsplat.types import Cameras


def room_camera():
    pose, intrinsics = np.eye(4, dtype=np.float32), np.eye(3, dtype=np.float32)
    return Cameras(pose[None], intrinsics[None], np.int32([[8, 8]]), ("photo",))


def test_every_way_has_options_of_its_own_and_a_source():
    assert list(GROUPINGS) == ["clusters", "super", "masks"]
    for grouping in GROUPINGS.values():
        grouping.options()
        assert grouping.summary
        assert grouping.source


def test_a_name_of_nothing_is_refused():
    with pytest.raises(UsageError, match="unknown grouping 'magic'"):
        grouping_named("magic")


def test_pieces_are_super_gaussians():
    room = small_room(300)
    found = GROUPINGS["super"].apply(room, Pieces(count=9, feature_weight=0.5))
    expected = super_gaussians(room, 9, feature_weight=0.5)
    np.testing.assert_array_equal(found.instances, expected.index)


def test_masks_are_given_to_the_way_that_needs_them_alone():
    room = small_room(20)
    with pytest.raises(UsageError, match="masks needs masks"):
        GROUPINGS["masks"].apply(room, Carried())
    with pytest.raises(UsageError, match="super takes no masks"):
        GROUPINGS["super"].apply(room, Pieces(), (room_camera(), []))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Pieces(feature_weight=float("nan")),
        lambda: Carried(overlap=0.0),
        lambda: Carried(reach=-1.0),
        lambda: Clustering(min_cells=1),
        lambda: Clustering(max_groups=0),
        lambda: Clustering(epsilon=float("nan")),
        lambda: Clustering(merge_distance=float("nan")),
        lambda: Clustering(quantile=1.5),
    ],
)
def test_options_without_sense_are_refused(make):
    with pytest.raises(UsageError):
        make()
