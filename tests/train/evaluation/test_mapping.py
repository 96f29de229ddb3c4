"""Ways to map footage: with a network that is exact, all of them find the truth."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

from ffsplat.alignment import Similarity
from ffsplat.stream.delta import FramePoses
from ffsplat.stream.mapper import Mapper
from tests.stream.stub import Faults, StubPredictor
from tests.walks import preview_walk as walk
from train.evaluation import mapping
from train.evaluation.footage import Footage
from train.evaluation.stream import look, measure
from train.evaluation.trajectory import align_trajectory, trajectory_errors


def footage(count: int = 50) -> Footage:
    seen = [walk().frame(number) for number in range(count)]
    return Footage(
        f"room {walk().seed}",
        np.stack([frame.image for frame in seen]),
        np.array([frame.time_ns for frame in seen]),
        np.stack([frame.world_from_camera for frame in seen]),
        np.stack([frame.intrinsics for frame in seen]),
        np.stack([frame.depth for frame in seen]),
        np.stack([frame.whole for frame in seen]),
    )


@dataclass(frozen=True)
class ExactModel:
    """What `chained` needs of a model, by a stub."""

    stub: StubPredictor

    @property
    def config(self):
        return SimpleNamespace(resolution=64, patch=8, metric=False)

    @property
    def codebook(self):
        return self.stub.codebook

    def predict(self, views):
        return self.stub.predict(views)

    def place_cameras(self, prediction, views, refine):
        assert refine
        return prediction


def chain_of(**faults):
    model = ExactModel(StubPredictor(walk().places, Faults(**faults)))
    return mapping.chained(model, footage())


def errors_of(made):
    return trajectory_errors(made.poses, footage().world_from_camera[made.rows])


@pytest.mark.parametrize("scale", [0.0, 0.3])
def test_a_chain_of_exact_pairs_is_exact_in_whatever_units_they_come(scale):
    made = chain_of(scale=scale)
    np.testing.assert_array_equal(made.rows, footage().given)
    assert errors_of(made).absolute < 1e-3
    assert errors_of(made).step_turn < 0.01


def test_errors_of_a_chain_add_up():
    drifting = errors_of(chain_of(turn=0.5))
    assert drifting.absolute > 10 * errors_of(chain_of()).absolute
    assert drifting.step_turn == pytest.approx(0.5 * np.sqrt(3), rel=0.3)


def test_the_scene_of_an_exact_chain_shows_what_was_kept_back():
    made = chain_of()
    truth = align_trajectory(made.poses, footage().world_from_camera[made.rows])
    seen = look(made.scene, truth, footage())
    assert seen["seen"] > 0.9
    assert seen["abs_rel"] < 0.05
    assert seen["delta1"] > 0.97
    assert seen["accuracy"] > 0.9
    assert seen["psnr"] > 20


def test_a_scene_in_another_world_is_brought_back_by_its_trajectory():
    made = chain_of()
    away = Similarity(0.2, np.diag([1.0, -1, -1]), np.array([3.0, 2, 1]))
    elsewhere = mapping.Mapped(
        made.rows, away.poses(made.poses), away.scene(made.scene), made.seconds
    )
    here, there = (measure("chain", one, footage()) for one in (made, elsewhere))
    for name in ("ate", "abs_rel", "psnr", "accuracy", "drift_move"):
        assert getattr(there, name) == pytest.approx(getattr(here, name), rel=0.02, abs=1e-4)


@pytest.mark.parametrize("posed", [False, True])
def test_the_mapper_with_an_exact_network_finds_the_truth(posed):
    made = mapping.run_mapper(Mapper(StubPredictor(walk().places, resolution=64)), footage(), posed)
    result = measure("mapper", made, footage())
    assert result.placed == 1
    assert result.ate_all < 0.01
    assert (
        posed or result.ate_live < 0.01
    )  # until poses tell where it lies, a map has its own world
    assert result.drift_turn < 0.5
    assert result.accuracy > 0.85
    assert made.counts["keyframe"] + made.counts["tracked"] == len(made.rows)


def test_frames_are_spread_evenly():
    np.testing.assert_array_equal(mapping.spread(np.arange(10, 20), 4), [10, 13, 16, 19])
    np.testing.assert_array_equal(mapping.spread(np.arange(3), 24), [0, 1, 2])


def test_poses_in_submaps_are_brought_into_the_world():
    pose = np.array([[1.0, 0, 0, 0, 1, 2, 3]])
    frames = FramePoses(
        np.array([7, 8]), np.array([0, 1]), np.array([0, 4], np.uint16), np.repeat(pose, 2, 0),
        np.zeros((2, 6), np.float32), np.zeros(2, np.uint8),
    )  # fmt: skip
    submaps = {0: Similarity.identity(), 4: Similarity(2.0, np.eye(3), np.array([10.0, 0, 0]))}
    poses = mapping.world_trajectory(frames, submaps)
    np.testing.assert_allclose(poses[:, :3, 3], [[1, 2, 3], [12, 4, 6]])
    np.testing.assert_allclose(poses[:, :3, :3], np.tile(np.eye(3), (2, 1, 1)))
