import numpy as np
import pytest

from ffsplat.alignment import Similarity
from ffsplat.stream.beside import Beside
from ffsplat.stream.graph import sim3
from ffsplat.stream.map import SplatMap
from ffsplat.stream.settings import MapperSettings
from ffsplat.stream.submaps import FRAME, MOST_FRAMES, SMOOTHED, Loop, Submaps
from tests.stream.graph.test_graph import assert_same, circle, drift

COUNT = 12


@pytest.fixture
def splats() -> Beside[SplatMap]:
    return Beside(SplatMap(MapperSettings(max_splats=8, max_submaps=COUNT + 2), 1.0))


@pytest.fixture
def submaps(splats) -> Submaps:
    """Submaps once round a circle that shrinks, so that the last is beside the first only truly."""
    made = Submaps(splats)
    truth, pose = circle(COUNT), circle(COUNT)[0]
    for number in range(COUNT):
        if number:
            pose = pose @ truth[number - 1].inverse() @ truth[number] @ drift(scale=0.98)
        open_at(made, pose, number)
    return made


def open_at(submaps: Submaps, pose: Similarity, now: int) -> int:
    """A new submap at the place and in the direction of a pose."""
    return submaps.open(sim3.matrices([rigid(pose)])[0], 1.0, now, given=False)


def rigid(pose: Similarity) -> Similarity:
    return Similarity(1.0, pose.rotation, pose.translation)


def close(submaps: Submaps) -> bool:
    """The last submap lies to the first as it truly does."""
    truth = circle(COUNT)
    first, last = submaps.poses[0], submaps.poses[COUNT - 1]
    moved = first @ truth[0].inverse() @ truth[-1] @ last.inverse()
    return submaps.close_loop(Loop(0, COUNT - 1, moved, 1.0, 1.0, submaps.epoch))


def test_a_correction_is_what_the_graph_finds_step_by_step(submaps, splats):
    before, submaps.stride = dict(submaps.poses), 2
    assert close(submaps)
    expected = submaps.graph.optimize(fixed={0})
    assert_same(submaps.poses, before, 0.0)
    frames = 0
    while submaps.correction is not None:
        assert submaps.epoch == 0
        submaps.advance()
        frames += 1
    assert 1 < frames <= 15
    assert submaps.epoch == 1
    assert_same(submaps.poses, expected, 0.0)
    assert_same(dict(submaps.graph.poses), expected, 0.0)
    for number, pose in expected.items():
        np.testing.assert_allclose(
            splats.done().submap_pose(number).translation, pose.translation, atol=1e-12
        )


def test_all_steps_at_once_are_the_same(submaps):
    assert close(submaps)
    expected = submaps.graph.optimize(fixed={0})
    submaps.finish()
    assert submaps.correction is None
    assert_same(submaps.poses, expected, 0.0)
    submaps.finish()
    assert submaps.epoch == 1


def test_what_was_opened_meanwhile_moves_with_the_last_that_was_there(submaps):
    submaps.stride = 1
    assert close(submaps)
    submaps.advance()
    last = submaps.poses[COUNT - 1]
    young = open_at(submaps, last @ drift((0.0, 0.0, 0.1)), COUNT)
    relative = last.inverse() @ submaps.poses[young]
    submaps.finish()
    found = submaps.poses[COUNT - 1].inverse() @ submaps.poses[young]
    np.testing.assert_allclose(found.translation, relative.translation, atol=1e-12)
    np.testing.assert_allclose(found.rotation, relative.rotation, atol=1e-12)
    assert not np.allclose(submaps.poses[COUNT - 1].translation, last.translation)


def test_a_number_given_again_meanwhile_is_another_submap(submaps):
    submaps.stride = 1
    assert close(submaps)
    submaps.advance()
    submaps.drop(5)
    place = submaps.poses[COUNT - 1] @ drift((0.0, 0.0, 0.1))
    assert open_at(submaps, place, COUNT) == 5
    relative = submaps.poses[COUNT - 1].inverse() @ submaps.poses[5]
    submaps.finish()
    found = submaps.poses[COUNT - 1].inverse() @ submaps.poses[5]
    np.testing.assert_allclose(found.translation, relative.translation, atol=1e-12)


def test_where_submaps_lie_is_known_as_numbers_too(submaps):
    def assert_known() -> None:
        wanted = sim3.rows(submaps.poses.values())
        np.testing.assert_array_equal(submaps.lies[list(submaps.poses)], wanted)

    assert_known()
    assert close(submaps)
    submaps.finish()
    assert_known()
    submaps.drop(5)
    open_at(submaps, submaps.poses[2], COUNT)
    open_at(submaps, submaps.poses[3], COUNT)
    submaps.move_all(Similarity(2.0, np.eye(3), np.ones(3)))
    assert_known()


def test_another_world_waits_for_no_correction(submaps):
    assert close(submaps)
    expected = submaps.graph.optimize(fixed={0})
    by = Similarity(2.0, np.eye(3), np.ones(3))
    submaps.move_all(by)
    assert submaps.correction is None
    assert_same(submaps.poses, {number: by @ pose for number, pose in expected.items()}, 1e-12)


def test_ties_pull_a_submap_to_where_most_views_have_it(submaps):
    """Two views of three say that the last submap lies elsewhere than where it was opened."""
    placed = submaps.poses[COUNT - 1] @ drift((0.0, 0.0, 0.1))
    young = submaps.open(sim3.matrices([rigid(placed)])[0], 1.0, COUNT, given=False, tied=True)
    off = Similarity(1.1, np.eye(3), np.array([0.3, 0.0, 0.0]))
    for old, moved in ((COUNT - 1, off), (COUNT - 2, off), (COUNT - 3, Similarity.identity())):
        submaps.tie(old, young, moved, 1.0, 0.05)
    older = {number: pose for number, pose in submaps.poses.items() if number < COUNT - SMOOTHED}
    expected = submaps.graph.optimize(fixed=list(submaps.poses)[:-SMOOTHED])
    submaps.smooth()
    submaps.finish()
    assert_same(submaps.poses, expected, 0.0)
    assert_same({number: submaps.poses[number] for number in older}, older, 0.0)
    moved = submaps.poses[young].translation - placed.translation
    wanted = (off @ placed).translation - placed.translation
    assert 0.4 < moved @ wanted / (wanted @ wanted) < 0.9


def test_a_submap_without_any_tie_follows_the_current_one(submaps):
    edges = len(submaps.graph.edges)
    open_at(submaps, submaps.poses[COUNT - 1], COUNT)
    assert len(submaps.graph.edges) == edges + 1


def test_smoothing_waits_for_a_loop_that_is_being_closed(submaps):
    assert close(submaps)
    closing = submaps.correction
    submaps.smooth()
    assert submaps.correction is closing


def follow(submaps: Submaps, place: int, before: int) -> int:
    """A frame as a node, a step from the node before it."""
    pose = submaps.places[before] @ drift((0.0, 0.0, 0.1))
    node = submaps.step(place, sim3.matrices([rigid(pose)])[0])
    submaps.tie(before, node, Similarity.identity(), 1.0, 0.05)
    return node


def test_frames_between_submaps_are_corrected_with_them(submaps):
    """A submap is tied by frames alone: the last one says that it lies elsewhere."""
    first = follow(submaps, 7, COUNT - 1)
    second = follow(submaps, 8, first)
    told = []
    submaps.on_move = lambda: told.append(dict(submaps.frames))
    pose = sim3.matrices([rigid(submaps.places[second])])[0]
    young = submaps.open(pose, 1.0, COUNT, given=False, tied=True)
    off = Similarity(1.0, np.eye(3), np.array([0.3, 0.0, 0.0]))
    submaps.tie(second, young, off, 1.0, 0.05)
    submaps.tie(COUNT - 1, young, Similarity.identity(), 1.0, 0.05)
    expected = submaps.graph.optimize(fixed=list(submaps.poses)[:-SMOOTHED])
    before = submaps.frames[second]
    submaps.smooth()
    submaps.finish()
    assert_same(submaps.places, expected, 0.0)
    assert np.abs(submaps.frames[second].translation - before.translation).max() > 0.02
    assert list(submaps.frames) == [FRAME + 7, FRAME + 8]
    assert_same(told[-1], submaps.frames, 0.0)


def test_a_frame_that_leaves_passes_on_what_tied_the_next(submaps):
    node = COUNT - 1
    for place in range(MOST_FRAMES + 5):
        node = follow(submaps, place, node)
    assert list(submaps.frames) == [FRAME + place for place in range(5, MOST_FRAMES + 5)]
    poses = submaps.graph.optimize(fixed=[COUNT - 1])
    assert_same({n: poses[n] for n in submaps.frames}, submaps.frames, 1e-9)
    submaps.leave_all()
    assert not submaps.frames
    assert max(submaps.graph.poses) < FRAME


def test_another_world_takes_frames_along(submaps):
    node = follow(submaps, 3, COUNT - 1)
    by, before = Similarity(2.0, np.eye(3), np.ones(3)), submaps.frames[node]
    submaps.move_all(by)
    assert_same(submaps.frames, {node: by @ before}, 1e-12)


def test_a_loop_found_before_the_submaps_moved_is_not_closed(submaps):
    loop = Loop(0, COUNT - 1, Similarity.identity(), 1.0, 1.0, submaps.epoch)
    submaps.move_all(drift(scale=2.0))
    assert not submaps.close_loop(loop)
    assert submaps.correction is None


@pytest.mark.parametrize("found", [True, False])
@pytest.mark.parametrize("asked", [True, False])
def test_while_a_loop_is_awaited_nothing_is_smoothed(submaps, found, asked):
    loop = Loop(0, COUNT - 1, Similarity.identity(), 1.0, 1.0, submaps.epoch) if found else None
    proof = submaps.await_loop(lambda: loop)
    if asked:
        submaps.smooth()
    assert submaps.correction is None
    assert submaps.take_loop(proof.result()) == found
    assert (submaps.correction is not None) == (found or asked)
