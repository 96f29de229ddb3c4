"""Overlap and clips: hand values, the toy world, covisibility measured by others."""

import json

import numpy as np
import pytest
import toyworld as toy
from scipy.stats import spearmanr
from toylayouts import write_colmap, write_folder

from data.landing import land, lift
from data.sources import colmap, folder
from data.sources.clips import ClipRule, cut, overlap, sound_frames
from data.sources.frame import DepthMap, Frame, SourceScene
from ffsplat.errors import UsageError


def test_landing_by_hand():
    """A camera one metre to the right, f = 10 px, sees a point at 2 m 5 px further left."""
    k = np.array([[10.0, 0, 4], [0, 10, 3], [0, 0, 1]])
    moved = np.eye(4)
    moved[0, 3] = 0.2
    depth = np.full((6, 8), 2.0)
    landing = land(lift(depth, k, np.eye(4)), k, moved, (6, 8))
    assert landing.z == pytest.approx(2)
    columns = np.tile(np.arange(8), 6)
    np.testing.assert_array_equal(landing.inside, columns >= 1)
    expected = np.arange(48) - 1
    np.testing.assert_array_equal(landing.index[landing.inside], expected[columns >= 1])


def test_what_is_behind_or_at_the_camera_does_not_land():
    points = np.array([[0, 0, -1.0], [0, 0, 0], [0, 0, 1]])
    k = np.array([[1.0, 0, 1], [0, 1, 1], [0, 0, 1]])
    assert land(points, k, np.eye(4), (2, 2)).inside.tolist() == [False, False, True]


def test_landing_on_the_toy_world_is_exact():
    """Every pixel of one view lands where the other view's own depth says the same."""
    first, second = toy.views(2)
    points = lift(first.depth, toy.INTRINSICS, first.pose)
    landing = land(points, toy.INTRINSICS, second.pose, second.depth.shape)
    rays = points - second.pose[:3, 3]
    inside = landing.inside
    assert 0.3 < inside.mean() < 1
    local = rays[inside] @ second.pose[:3, :3]
    truth = toy.trace_rays(second.pose, (local / local[:, 2:])[None])
    np.testing.assert_allclose(landing.z[inside], truth.depth[0], rtol=1e-9)
    there = second.depth.ravel()[landing.index[inside]]
    assert np.median(np.abs(there / landing.z[inside] - 1)) < 0.01


def _line(count: int, width: float = 0.2, reach: float = 1.0) -> np.ndarray:
    """Overlaps of a camera that walks along a wall: 1 at no distance, 0 from `reach` on."""
    apart = np.abs(np.subtract.outer(np.arange(count), np.arange(count))) * width
    return np.clip(1 - apart / reach, 0, 1).astype(np.float32)


RULE = ClipRule(views=3, min_overlap=0.35, max_overlap=0.75)


def test_clips_keep_the_rule():
    overlaps = _line(40)
    clips = cut(overlaps, RULE, "wall")
    assert {len(clip) for clip in clips} == {3}
    assert len(set(clips)) == len(clips)
    for clip in clips:
        assert list(clip) == sorted(clip)
        own = overlaps[np.ix_(clip, clip)] - np.eye(3)
        assert (own <= 0.75).all()
        assert (own.max(1) >= 0.35).all()
    assert {index for clip in clips for index in clip} == set(range(40)), "each frame is used"


def test_seed_and_name_decide():
    overlaps = _line(40)
    same = cut(overlaps, RULE, "wall")
    assert cut(overlaps, RULE, "wall") == same
    assert cut(overlaps, RULE, "hall") != same
    assert cut(overlaps, ClipRule(3, 0.35, 0.75, seed=1), "wall") != same


def test_frames_that_nothing_fits_are_in_no_clip():
    overlaps = _line(6)
    overlaps[5, :5] = overlaps[:5, 5] = 0
    used = {index for clip in cut(overlaps, RULE, "wall") for index in clip}
    assert used
    assert 5 not in used
    assert cut(np.eye(4, dtype=np.float32), RULE, "islands") == []
    assert cut(np.zeros((0, 0), np.float32), RULE, "nothing") == []


@pytest.mark.parametrize(
    "values", [{"views": 0}, {"stride": 0}, {"min_overlap": 0.9, "max_overlap": 0.1}]
)
def test_rules_without_sense_are_refused(values):
    with pytest.raises(UsageError):
        ClipRule(**values)


def _panorama(angles: list[float], depth: bool, tmp_path) -> SourceScene:
    """A camera in the middle of the toy's box, turned about the vertical by degrees."""
    k = np.array([[40.0, 0, 40], [0, 40, 30], [0, 0, 1]])
    frames = []
    for index, angle in enumerate(np.radians(angles)):
        pose = np.eye(4)
        pose[:3, :3] = [
            [np.cos(angle), 0, np.sin(angle)],
            [0, 1, 0],
            [-np.sin(angle), 0, np.cos(angle)],
        ]
        view = toy.trace(pose, k, toy.SIZE)
        toy.save_depth(tmp_path / f"{index}.png", view.depth, 1e-4)
        known = DepthMap(tmp_path / f"{index}.png", 1e-4) if depth else None
        frames.append(Frame(str(index), tmp_path / "none", toy.SIZE, k, pose, depth=known))
    return SourceScene("panorama", "toy", tuple(frames), metric=True)


@pytest.mark.parametrize("depth", [True, False])
def test_overlap_of_a_camera_that_turns(tmp_path, depth):
    """90 degrees of view: turned by 45 about half of the picture is shared, by 100 nothing."""
    scene = _panorama([0, 45, 100], depth, tmp_path)
    seen = overlap(scene, list(scene.frames))
    np.testing.assert_allclose(np.diag(seen), 1)
    # The ray at 45 degrees is tan(45) off the middle: exactly half of the columns are shared.
    assert 0.35 < seen[0, 1] <= 0.5
    assert seen[0, 2] == 0
    np.testing.assert_array_equal(seen, seen.T)


def test_what_is_hidden_does_not_overlap(tmp_path):
    """Both depth maps look the same way, but the second ends at a board 0.5 m away."""
    scene = _panorama([0, 0], True, tmp_path)
    toy.save_depth(tmp_path / "1.png", np.full((60, 80), 0.5), 1e-4)
    assert overlap(scene, list(scene.frames))[0, 1] == 0


def test_unknown_depth_is_not_counted(tmp_path):
    scene = _panorama([0, 0], True, tmp_path)
    view = toy.trace(np.eye(4), scene.frames[0].intrinsics, toy.SIZE)
    toy.save_depth(tmp_path / "1.png", np.where(np.arange(80) < 40, view.depth, 0), 1e-4)
    assert overlap(scene, list(scene.frames))[0, 1] == pytest.approx(1)


def test_sparse_points_stand_for_depth(tmp_path):
    """COLMAP's points against the exact share of them in the other frustum."""
    write_colmap(tmp_path, toy.views())
    scene = colmap.read(tmp_path)
    seen = overlap(scene, list(scene.frames))
    sets = [set(frame.points.tolist()) for frame in scene.frames if frame.points is not None]
    for a in range(4):
        for b in range(4):
            both = len(sets[a] & sets[b])
            assert seen[a, b] == pytest.approx(min(both / len(sets[a]), both / len(sets[b])))


def test_broken_poses_are_dropped_by_name(tmp_path):
    content = write_folder(tmp_path, toy.views())
    poses = [frame["cam_to_world"] for frame in content["frames"]]
    poses[1][0][0] = float("nan")
    poses[2][0] = [2 * value for value in poses[2][0]]
    poses[3] = (np.array(poses[3]) @ np.diag([-1, 1, 1, 1])).tolist()
    content["frames"][3]["cam_to_world"] = poses[3]
    (tmp_path / "cameras.json").write_text(json.dumps(content))
    sound, dropped = sound_frames(folder.read(tmp_path), 1)
    assert [frame.name for frame in sound] == ["0"]
    assert dropped == [
        "1: pose is not finite",
        "2: pose is not rigid",
        "3: pose is mirrored (determinant -1)",
    ]


def test_stride_and_odd_sizes(tmp_path):
    scene = _panorama([0, 10, 20, 30, 40], False, tmp_path)
    sound, dropped = sound_frames(scene, 2)
    assert [frame.name for frame in sound] == ["0", "2", "4"]
    odd = toy.replace(scene.frames[2], size=(60, 80))
    mixed = toy.replace(scene, frames=(*scene.frames[:2], odd, *scene.frames[3:]))
    sound, dropped = sound_frames(mixed, 1)
    assert len(sound) == 4
    assert dropped == ["2: 60 x 80 pixels"]


@pytest.mark.parametrize("name", ["hololens_office", "slambook_diningroom", "apc_shelf"])
def test_overlap_ranks_pairs_as_others_measured_them(shared_data, name):
    scene = folder.read(shared_data / name)
    seen = overlap(scene, list(scene.frames))
    pairs = json.loads((shared_data / name / "pairs.json").read_text())["pairs"]
    ours = [seen[int(a), int(b)] for a, b, *_ in pairs]
    assert spearmanr(ours, [covisibility for _, _, covisibility, *_ in pairs]).statistic > 0.8
