import threading
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plainmap import PlainMap
from toydeltas import (
    ToyMap,
    empty_delta,
    random_codebook,
    random_frames,
    random_quaternions,
    random_splats,
)

from ffsplat import codes
from ffsplat.alignment import Similarity
from ffsplat.codebook import gram, lexicon_codebook
from ffsplat.geometry import matrix_from_quaternion
from ffsplat.stream.delta import MapDelta, SplatRows
from ffsplat.stream.protocol.blocks import decode_delta, encode_delta
from ffsplat.stream.protocol.document import write_document
from ffsplat.stream.protocol.errors import ProtocolError
from ffsplat.stream.replica.replica import Replica
from ffsplat.types import SH_C0, Gaussians

RNG = np.random.default_rng(1)
POSE = np.array([1.0, 1, 0, 0, 0, 0, 0, 0])


def following(deltas: list[MapDelta], **caps) -> Replica:
    replica = Replica(**caps)
    for delta in deltas:
        assert replica.apply(delta)
    return replica


def with_submaps(number: int, *submaps: int, **changes) -> MapDelta:
    """A delta that brings submaps that lie in the origin of the world."""
    poses = np.tile(POSE, (len(submaps), 1))
    return empty_delta(number, submaps=np.array(submaps, np.uint16), submap_poses=poses, **changes)


def splats(places, submap: int = 0, rows: int = 3) -> SplatRows:
    return random_splats(RNG, np.array(places), [submap], rows)


def coded(ids, weights) -> SplatRows:
    """One Gaussian at place 0 with this code."""
    one = splats([0])
    return replace(one, ids=np.array([ids], np.int16), weights=np.array([weights], np.uint8))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_deltas_do_what_the_text_says(seed):
    toy, plain, replica = ToyMap(seed), PlainMap(), Replica()
    for _ in range(8):
        delta = toy.next()
        plain.apply(delta)
        assert replica.apply(delta)
        assert plain.same_as(replica.snapshot())
        assert (replica.number, replica.epoch) == (delta.number, delta.epoch)
        assert len(replica) == len(plain.splats)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 6))
def test_who_began_in_the_middle_has_the_same_bytes(seed, middle, most):
    toy = ToyMap(seed)
    deltas = [toy.next() for _ in range(10)]
    first = following(deltas[:middle], max_keyframes=most)
    late = Replica(max_keyframes=most)
    late.restore(decode_delta(encode_delta(first.snapshot())))
    assert write_document(late.snapshot()) == write_document(first.snapshot())
    for delta in deltas[middle:]:
        first.apply(delta)
        late.apply(decode_delta(encode_delta(delta)))
        assert write_document(late.snapshot()) == write_document(first.snapshot())
    assert len(first.snapshot().frames) <= most


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_scene_that_followed_is_that_made_at_once(seed):
    toy, replica = ToyMap(seed), Replica()
    for _ in range(8):
        replica.apply(toy.next())
        fresh = Replica()
        fresh.restore(replica.snapshot())
        one, other = replica.scene(), fresh.scene()
        for name in ("gaussians", "codes", "cameras"):
            for column in fields(getattr(one, name)):
                found = getattr(getattr(one, name), column.name)
                assert np.array_equal(found, getattr(getattr(other, name), column.name))
        assert np.array_equal(one.instances, other.instances)


def test_gaussians_and_cameras_are_placed_as_their_submaps_are():
    rng = np.random.default_rng(3)
    poses = np.hstack(
        [rng.uniform(0.5, 2, (2, 1)), random_quaternions(rng, 2), rng.normal(size=(2, 3))]
    )
    frames = replace(random_frames(rng, np.arange(5), [4, 9]), keyframes=np.ones(5, np.uint8))
    rows = random_splats(rng, np.arange(50), [4, 9], 3)
    delta = empty_delta(
        splats=rows, frames=frames, submaps=np.array([4, 9], np.uint16), submap_poses=poses
    )
    scene = following([delta]).scene()
    for submap, pose in zip((4, 9), poses, strict=True):
        turn = matrix_from_quaternion(torch.from_numpy(pose[1:5])).numpy()
        world_from_submap = Similarity(pose[0], turn, pose[5:])
        own = np.flatnonzero(rows.submaps == submap)
        lengths = np.linalg.norm(rows.quaternions_wxyz[own].astype(np.float32), axis=1)
        local = Gaussians(
            rows.means[own],
            rows.scales[own].astype(np.float32),
            rows.quaternions_wxyz[own] / lengths[:, None],
            rows.opacities[own] / np.float32(255),
            np.zeros((len(own), 1, 3), np.float32),
        )
        expected, found = world_from_submap.gaussians(local), scene.gaussians[own]
        cosines = (found.quaternions_wxyz * expected.quaternions_wxyz).sum(1)
        assert np.allclose(np.abs(cosines), 1, atol=1e-5)
        for name in ("means", "scales", "opacities"):
            assert np.allclose(getattr(found, name), getattr(expected, name), atol=1e-5)
        views = np.flatnonzero(frames.submaps == submap)
        local_poses = np.tile(np.eye(4), (len(views), 1, 1))
        quaternions = torch.from_numpy(frames.poses[views, :4])
        local_poses[:, :3, :3] = matrix_from_quaternion(quaternions).numpy()
        local_poses[:, :3, 3] = frames.poses[views, 4:]
        expected_poses = world_from_submap.poses(local_poses)
        assert np.allclose(scene.cameras.world_from_camera[views], expected_poses, atol=1e-5)
    assert np.allclose(scene.gaussians.colors, rows.colors / 255, atol=1e-6)
    assert np.allclose(0.5 + SH_C0 * scene.gaussians.sh[:, 0], rows.colors / 255, atol=1e-6)
    assert np.array_equal(scene.cameras.intrinsics[0], [[500, 0, 320], [0, 510, 240], [0, 0, 1]])
    assert scene.cameras.sizes[0].tolist() == [640, 480]
    assert scene.codes is None


def test_codes_have_the_lengths_of_their_codebook():
    codebook = random_codebook(RNG, 3)
    scene = following([with_submaps(1, 0, splats=splats(range(20)), codebook=codebook)]).scene()
    lengths = codes.norm(scene.codes, gram(codebook, "toy"))
    assert np.allclose(scene.codes.norms, lengths, atol=2e-3)
    sums = scene.codes.weights.astype(np.float32).sum(1)
    assert np.all((np.abs(sums - 1) < 2e-3) | (sums == 0))


def test_a_scene_can_be_asked():
    codebook = lexicon_codebook()
    chair = codebook.names.index("chair")
    rows = replace(
        splats(range(8)),
        ids=np.tile(np.array([chair, -1, -1, -1], np.int16), (8, 1)),
        weights=np.tile(np.array([255, 0, 0, 0], np.uint8), (8, 1)),
        instances=np.full(8, 3, np.int32),
    )
    replica = following([with_submaps(1, 0, splats=rows, codebook=codebook)])
    (hit,) = replica.scene().query("chair").hits
    assert (hit.name, hit.instance, hit.count) == ("chair", 3, 8)


def test_a_scene_is_kept_until_the_next_delta():
    replica = following([with_submaps(1, 0, splats=splats(range(5)))])
    scene = replica.scene()
    assert replica.scene() is scene
    replica.apply(empty_delta(2, removed=np.array([2], np.uint32)))
    assert (len(scene), len(replica.scene())) == (5, 4)


def test_an_empty_map_has_a_snapshot_and_a_scene():
    replica = Replica()
    assert (replica.number, len(replica), len(replica.scene())) == (0, 0, 0)
    other = Replica()
    other.restore(decode_delta(encode_delta(replica.snapshot())))
    assert other.number == 0


def test_a_repeat_changes_nothing_and_a_gap_is_refused():
    deltas = [with_submaps(1, 0, splats=splats([1, 2])), empty_delta(2)]
    replica = following(deltas)
    before = write_document(replica.snapshot())
    assert not replica.apply(deltas[0])
    assert not replica.apply(deltas[1])
    with pytest.raises(ProtocolError, match="delta 4 after 2"):
        replica.apply(empty_delta(4))
    assert write_document(replica.snapshot()) == before


@pytest.mark.parametrize(
    ("delta", "words"),
    [
        (empty_delta(2, splats=splats([100])), "place 100 is over 100"),
        (empty_delta(2, splats=splats([1], submap=7)), "not there"),
        (empty_delta(2, frames=random_frames(RNG, np.arange(1), [7])), "not there"),
        (empty_delta(2, splats=splats([1]), removed_submaps=np.array([0], np.uint16)), "not there"),
        (empty_delta(2, splats=coded([3, -1, -1, -1], [9, 0, 0, 0])), "no row 3"),
        (empty_delta(2, row_map=np.array([0], np.int16)), "row_map has no row 2"),
        (empty_delta(2, row_map=np.array([3, 3, 3], np.int16)), "no row 3"),
        (empty_delta(2, codebook=random_codebook(RNG, 2)), "no row 2"),
    ],
)
def test_a_delta_that_does_not_fit_changes_nothing(delta, words):
    start = with_submaps(
        1, 0, splats=coded([2, -1, -1, -1], [9, 0, 0, 0]), codebook=random_codebook(RNG, 3)
    )
    replica = following([start], max_splats=100)
    before = write_document(replica.snapshot())
    with pytest.raises(ProtocolError, match=words):
        replica.apply(delta)
    with pytest.raises(ProtocolError):
        replica.restore(replace(delta, submaps=np.zeros(0, np.uint16), splats=splats([100])))
    assert write_document(replica.snapshot()) == before
    assert replica.number == 1


def test_a_submap_may_go_and_come_in_one_delta():
    replica = following([with_submaps(1, 0, splats=splats([1, 2]))])
    replica.apply(with_submaps(2, 0, splats=splats([5]), removed_submaps=np.array([0], np.uint16)))
    assert replica.snapshot().splats.gids.tolist() == [5]


def test_a_place_may_be_cleared_and_filled_in_one_delta():
    replica = following([with_submaps(1, 0, splats=splats([1, 2]))])
    replica.apply(empty_delta(2, splats=splats([1]), removed=np.array([1, 2, 9], np.uint32)))
    assert replica.snapshot().splats.gids.tolist() == [1]


@pytest.mark.parametrize(
    ("ids", "weights", "row_map", "new_ids", "new_weights"),
    [
        ([0, 1, 2, -1], [90, 80, 70, 0], [0, 1, 2], [0, 1, 2, -1], [90, 80, 70, 0]),
        ([0, 1, 2, -1], [90, 80, 70, 0], [0, 2, 2], [2, 0, -1, -1], [150, 90, 0, 0]),
        ([0, 1, 2, -1], [90, 80, 70, 0], [-1, 1, 0], [1, 0, -1, -1], [80, 70, 0, 0]),
        ([0, 1, 2, 3], [200, 50, 5, 0], [3, 3, 3, 3], [3, -1, -1, -1], [255, 0, 0, 0]),
        ([0, 1, 2, 3], [200, 80, 5, 0], [3, 3, 3, 3], [3, -1, -1, -1], [255, 0, 0, 0]),
        ([0, 1, -1, -1], [60, 60, 0, 0], [2, 1], [1, 2, -1, -1], [60, 60, 0, 0]),
        ([0, 1, -1, -1], [60, 60, 0, 0], [-1, -1], [-1, -1, -1, -1], [0, 0, 0, 0]),
    ],
)
def test_rows_join_in_whole_numbers(ids, weights, row_map, new_ids, new_weights):
    replica = following([with_submaps(1, 0, splats=coded(ids, weights))])
    replica.apply(empty_delta(2, row_map=np.array(row_map, np.int16)))
    found = replica.snapshot().splats
    assert (found.ids[0].tolist(), found.weights[0].tolist()) == (new_ids, new_weights)


def test_a_frame_that_is_given_again_replaces_the_first():
    frames = random_frames(RNG, np.arange(3), [0])
    frames = replace(frames, keyframes=np.array([1, 0, 1], np.uint8))
    replica = following([with_submaps(1, 0, 1, frames=frames)])
    assert replica.snapshot().frames.numbers.tolist() == [0, 2]
    again = replace(random_frames(RNG, np.array([2, 0]), [1]), keyframes=np.array([1, 0], np.uint8))
    replica.apply(empty_delta(2, frames=again))
    assert replica.snapshot().frames.numbers.tolist() == [2]
    assert replica.snapshot().frames.submaps.tolist() == [1]


def test_a_number_that_comes_twice_in_a_delta_is_that_of_the_last():
    frames = random_frames(RNG, np.array([4, 3, 4]), [0])
    frames = replace(frames, keyframes=np.ones(3, np.uint8))
    kept = following([with_submaps(1, 0, frames=frames)]).snapshot().frames
    assert kept.numbers.tolist() == [3, 4]
    assert np.array_equal(kept.poses, frames.poses[1:])


def test_no_room_at_all_is_refused():
    for caps in ({"max_splats": 0}, {"max_keyframes": 0}):
        with pytest.raises(ValueError, match="no room"):
            Replica(**caps)


def test_room_grows_with_the_places_and_no_further_than_the_cap():
    replica = following([with_submaps(1, 0, splats=splats([9_999]))], max_splats=10_000)
    state = replica._state
    assert len(state.present) == len(state.columns["means"]) == 10_000
    held = sum(column.nbytes for column in state.columns.values())
    assert held + 3 * len(state.present) == 47 * 10_000


def test_scenes_may_be_asked_for_while_deltas_come():
    replica, stop, failures = Replica(), threading.Event(), []

    def ask():
        while not stop.is_set():
            scene = replica.scene()
            if not np.isfinite(scene.gaussians.means).all():
                failures.append("not finite")
            number = replica.snapshot().number
            if number < int(scene.provenance["delta"]):
                failures.append("behind")

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    toy = ToyMap(5)
    for _ in range(60):
        replica.apply(toy.next())
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    plain, toy = Replica(), ToyMap(5)
    for _ in range(60):
        plain.apply(toy.next())
    assert write_document(plain.snapshot()) == write_document(replica.snapshot())
    assert np.array_equal(plain.scene().gaussians.means, replica.scene().gaussians.means)
