from dataclasses import fields

import numpy as np
import pytest

from ffsplat.alignment import Similarity
from ffsplat.stream.delta import SplatRows
from ffsplat.stream.map import SplatMap
from tests.stream.map.made import CELL, observed, one_submap, random_observed, random_pose, settings


def as_bytes(rows: SplatRows) -> dict[int, dict[str, bytes]]:
    """Each Gaussian by its place, field by field."""
    names = [one.name for one in fields(SplatRows)]
    return {
        int(gid): {name: getattr(rows, name)[i].tobytes() for name in names}
        for i, gid in enumerate(rows.gids)
    }


class Receiver:
    """What somebody has who only ever got the changes, in the order that `MapDelta` says."""

    def __init__(self):
        self.rows: dict[int, dict[str, bytes]] = {}
        self.poses: dict[int, list[float]] = {}

    def rename(self, row_map):
        for row in self.rows.values():
            ids = np.append(row_map, np.int16(-1))[np.frombuffer(row["ids"], np.int16)]
            weights = np.frombuffer(row["weights"], np.uint8)
            order = np.lexsort((ids, -weights.astype(int)))
            row["ids"], row["weights"] = ids[order].tobytes(), weights[order].tobytes()

    def apply(self, changes):
        for gid in changes.removed:
            del self.rows[int(gid)]
        gone = {np.uint16(number).tobytes() for number in changes.removed_submaps}
        self.rows = {gid: row for gid, row in self.rows.items() if row["submaps"] not in gone}
        for number in changes.removed_submaps:
            del self.poses[int(number)]
        for number, pose in zip(changes.submaps, changes.submap_poses, strict=True):
            self.poses[int(number)] = pose.tolist()
        assert changes.splats.gids.tolist() == sorted(changes.splats.gids.tolist())
        self.rows |= as_bytes(changes.splats)


@pytest.mark.parametrize("seed", range(4))
def test_all_changes_together_are_the_map_byte_for_byte(seed):
    rng = np.random.default_rng(seed)
    splats, receiver = SplatMap(settings(max_splats=100), CELL), Receiver()
    for _ in range(3):
        splats.add_submap(random_pose(rng))
    for now in range(60):
        row_map = None
        for _ in range(rng.integers(1, 4)):
            number = int(rng.choice(splats.submaps()))
            near = rng.permutation(splats.submaps())[:2].tolist()
            splats.fuse(random_observed(rng, 25, size=1.5), number, near, now)
        if rng.random() < 0.3:
            row_map = rng.integers(-1, 8, 8).astype(np.int16)
            if rng.random() < 0.7:
                row_map = rng.permutation(8).astype(np.int16)
            splats.remap(row_map)
        if rng.random() < 0.2:
            splats.move_submaps([number], [random_pose(rng)])
        if rng.random() < 0.2:
            splats.remove_submap(int(rng.choice(splats.submaps())))
            splats.add_submap(random_pose(rng))
        if row_map is None and rng.random() < 0.3:
            continue  # several rounds between two calls
        if row_map is not None:
            receiver.rename(row_map)
        receiver.apply(splats.take_changes())
        assert receiver.rows == as_bytes(splats.rows(splats.alive()))
        assert sorted(receiver.poses) == splats.submaps()
    assert len(splats) > 50


def test_nothing_changed_is_nothing():
    splats = one_submap()
    assert splats.take_changes()
    assert not splats.take_changes()
    splats.fuse(observed([[0, 0, 0]]), 0, [], 0)
    assert splats.take_changes().splats.gids.tolist() == [0]
    assert not splats.take_changes()


def test_what_came_and_went_between_two_calls_is_not_named():
    splats = one_submap(max_splats=1)
    splats.take_changes()
    for x in range(3):
        splats.fuse(observed([[x, 0, 0]]), 0, [], x)
    changes = splats.take_changes()
    assert (changes.splats.gids.tolist(), changes.removed.tolist()) == ([0], [])
    splats.remove_submap(0)
    splats.add_submap(Similarity.identity())
    changes = splats.take_changes()
    assert (changes.removed.tolist(), changes.removed_submaps.tolist()) == ([], [0])


def test_rows_have_the_precision_of_the_wire():
    splats = one_submap()
    one = observed(
        [[0.05, 0.05, 0.05]],
        scales=[[0.03125, 1e-9, 1e6]],
        quaternions_wxyz=[[-0.5, 0.5, 0.5, -0.5]],
        opacities=[1.0],
        colors=[[0.0, 0.5, 1.0]],
        ids=[[3, 2]],
        weights=[[0.75, 0.25]],
        instances=[7],
    )
    splats.fuse(one, 0, [], 0)
    rows = splats.rows(np.array([0]))
    assert rows.scales[0].tolist() == [0.03125, 2.0**-24, 65504]
    assert rows.quaternions_wxyz[0].tolist() == [-64, 64, 64, -64]
    assert rows.opacities.tolist() == [255]
    assert rows.colors[0].tolist() == [0, 128, 255]
    assert rows.ids[0].tolist() == [3, 2, -1, -1]
    assert rows.weights[0].tolist() == [191, 64, 0, 0]
    assert rows.instances.tolist() == [0]  # the map's own number
    assert sum(getattr(rows, one.name).nbytes for one in fields(SplatRows)) == 48


def test_whoever_begins_anew_is_told_everything():
    rng = np.random.default_rng(9)
    splats = SplatMap(settings(max_splats=50), CELL)
    for _ in range(2):
        splats.add_submap(random_pose(rng))
    for now in range(6):
        splats.fuse(random_observed(rng, 25), now % 2, [], now)
        splats.take_changes()
    splats.remove_submap(0)
    splats.tell_again()
    receiver = Receiver()
    receiver.apply(splats.take_changes())
    assert receiver.rows == as_bytes(splats.rows(splats.alive()))
    assert sorted(receiver.poses) == [1]
    assert not splats.take_changes()
