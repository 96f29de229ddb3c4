"""Whole runs of several passes in an exact world, each pass in a unit and a frame of its own."""

import boxroom
import numpy as np
import pytest
import torch
from fakes import fake_prediction, fake_views
from scipy.spatial.transform import Rotation

from ffsplat.alignment import fit_similarity
from ffsplat.chunks import Bound, plan, run_passes
from ffsplat.codebook import lexicon_codebook, rows_of_level
from ffsplat.merge import to_scene

VIEWS, HEIGHT, WIDTH, FOCAL = 11, 18, 24, 20.0
BOOK = lexicon_codebook()
ROWS = {level: len(rows_of_level(BOOK, level)) for level in ("whole", "part")}


UNBOUNDED = Bound()


class ExactNetwork:
    """Says what is true of a box room, in units that differ from pass to pass.

    View 0 of a pass is its world, as for any network; `noise` is relative to the depth.
    """

    def __init__(self, noise: float = 0.0, fail_at: int | None = None):
        self.poses = boxroom.cameras(VIEWS, seed=1, turn=0.2, move=0.4)
        self.depth, self.intrinsics, _ = boxroom.depth_and_points(self.poses, FOCAL, HEIGHT, WIDTH)
        self.noise = noise
        self.fail_at = fail_at
        self.calls = 0

    def __call__(self, views):
        rows = [int(source.name.removesuffix(".jpg")) for source in views.sources]
        self.calls += 1
        generator = torch.Generator().manual_seed(self.calls)
        unit = 0.5 + self.calls
        noise = torch.randn(1, len(rows), HEIGHT, WIDTH, generator=generator)
        depth = self.depth[:, rows] * (1 + self.noise * noise)
        if self.calls == self.fail_at:
            depth = depth * (2 * noise).exp()
        poses = torch.linalg.inv(self.poses[:, rows[:1]]) @ self.poses[:, rows]
        poses[..., :3, 3] *= unit
        return fake_prediction(
            v=len(rows), h=HEIGHT, w=WIDTH, **ROWS, depth=unit * depth, world_from_camera=poses,
            intrinsics=self.intrinsics[:, rows], scale=torch.full((1,), unit),
            opacities=torch.ones(1, len(rows), HEIGHT, WIDTH),
            scales=unit * 0.05 * torch.ones(1, len(rows), HEIGHT, WIDTH, 3),
            offsets=torch.zeros(1, len(rows), HEIGHT, WIDTH, 2),
        )  # fmt: skip


def build(prediction, views, voxel):
    return to_scene(
        prediction, views, BOOK, voxel=voxel, prune_edges=False, min_confidence=0.0,
        consistent=False,
    )  # fmt: skip


def run(network, chunk_views=4, overlap=2, bound=UNBOUNDED):
    views = fake_views(v=VIEWS, h=HEIGHT, w=WIDTH)
    chunks = plan(VIEWS, chunk_views, overlap)
    return run_passes(views, chunks, network, build, bound), views, chunks


def test_passes_in_units_of_their_own_become_one_world():
    network = ExactNetwork()
    done, _, chunks = run(network)
    assert network.calls == len(chunks) > 3
    assert [one.by for one in done.placements] == ["first"] + ["points"] * (len(chunks) - 1)
    assert done.scene.cameras.names == tuple(f"{i}.jpg" for i in range(VIEWS))
    unit = 1.5  # that of the first pass; its first view is the world
    truth = network.poses[0].numpy().copy()
    truth[:, :3, 3] *= unit
    np.testing.assert_allclose(done.scene.cameras.world_from_camera, truth, atol=1e-4)
    np.testing.assert_allclose(done.depth, unit * network.depth[0].numpy(), rtol=1e-4)
    # Each pixel of each view became one Gaussian, on the walls of the box.
    means = done.scene.gaussians.means
    assert len(means) == VIEWS * HEIGHT * WIDTH
    walls = unit * boxroom.HALF.numpy()
    np.testing.assert_allclose(np.abs(np.abs(means) - walls).min(1), 0, atol=2e-4)
    smoothing = 0.25 * (done.depth / FOCAL).ravel() ** 2
    # Of axes of one length the first counts as the shortest: it need not grow as far.
    np.testing.assert_allclose(
        done.scene.gaussians.scales[:, 1], np.sqrt((0.05 * unit) ** 2 + smoothing), rtol=1e-3
    )
    assert done.prediction is None
    assert done.warnings(*run(network)[1:]) == ()


def test_one_pass_is_what_it_was_without_passes():
    network = ExactNetwork()
    done, views, _ = run(network, chunk_views=VIEWS)
    expected = build(done.prediction, views, None)
    np.testing.assert_array_equal(done.scene.gaussians.means, expected.gaussians.means)
    np.testing.assert_array_equal(done.scene.instances, expected.instances)
    np.testing.assert_array_equal(done.depth, done.prediction.depth[0].numpy())


def test_noise_is_not_carried_into_a_drift():
    network = ExactNetwork(noise=0.05)
    done, _, _ = run(network)
    truth = network.poses[0].numpy()
    found = done.scene.cameras.world_from_camera
    fitted = fit_similarity(found[:, :3, 3], truth[:, :3, 3])
    off = np.linalg.norm(fitted.points(found[:, :3, 3]) - truth[:, :3, 3], axis=1)
    assert off.max() < 0.03
    for one in done.placements[1:]:
        assert one.by == "points"
        assert 0.02 < one.seam < 0.12
        assert one.agreement > 0.7


def test_a_pass_that_does_not_fit_is_named():
    network = ExactNetwork(fail_at=2)
    done, views, chunks = run(network)
    assert [one.by for one in done.placements][:3] == ["first", "cameras", "cameras"]
    told = done.warnings(views, chunks)
    first, last = chunks[1].start, chunks[1].stop - 1
    assert told[0].startswith(f"{first}.jpg to {last}.jpg lie where their cameras say")
    # The cameras were right, so they are still.
    angle = Rotation.from_matrix(
        done.scene.cameras.world_from_camera[:, :3, :3].transpose(0, 2, 1)
        @ network.poses[0, :, :3, :3].numpy()
    ).magnitude()
    assert angle.max() < 0.02


def test_a_voxel_is_in_the_unit_of_the_map():
    done, _, _ = run(ExactNetwork(), bound=Bound(voxel=0.3))
    means = done.scene.gaussians.means
    cells = np.unique(np.floor(means / np.float32(0.3)), axis=0)
    assert len(means) == pytest.approx(len(cells), rel=0.02)
    assert len(means) < 0.7 * VIEWS * HEIGHT * WIDTH


def test_many_gaussians_are_merged_with_a_warning():
    done, views, chunks = run(ExactNetwork(), bound=Bound(most=1500))
    assert len(done.scene) <= 1500
    assert "cells of" in done.warnings(views, chunks)[-1]
    assert (
        "at most 1500" in done.warnings(views, chunks)[-1]
        or "1500" in done.warnings(views, chunks)[-1]
    )


def test_the_world_stays_that_of_the_first_view():
    done, _, _ = run(ExactNetwork())
    np.testing.assert_array_equal(done.scene.cameras.world_from_camera[0], np.eye(4))
