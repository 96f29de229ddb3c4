"""More photos than one pass holds, mapped by a network that knows the truth."""

from dataclasses import replace

import numpy as np
import pytest

from ffsplat.alignment import fit_similarity
from ffsplat.chunks.place import FIRST, Placement
from ffsplat.stream.album import map_photos
from tests.stream.stub import Faults, StubPredictor
from tests.stream.test_stub import frames, views_of, walk

NUMBERS = range(0, 44, 4)


def album(faults=None, **options):
    views = views_of(frame.image for frame in frames(*NUMBERS))
    predictor = StubPredictor(walk().places, faults or Faults(), resolution=64)
    return map_photos(predictor, views, 4, **options), views


def test_every_photo_has_its_camera_and_its_depth_in_one_world():
    done, views = album(Faults(scale=0.2))
    seen = frames(*NUMBERS)
    assert done.scene.cameras.names == tuple(source.name for source in views.sources)
    poses = done.scene.cameras.world_from_camera.astype(np.float64)
    true = np.stack([frame.world_from_camera for frame in seen])
    np.testing.assert_allclose(poses[0], np.eye(4), atol=1e-7)
    fitted = fit_similarity(poses[:, :3, 3], true[:, :3, 3])
    np.testing.assert_allclose(fitted.poses(poses), true, atol=2e-3)
    depth = fitted.scale * done.depth
    np.testing.assert_allclose(depth, np.stack([frame.depth for frame in seen]), rtol=5e-3)
    assert len(done.placements) == len(views)
    assert done.warnings(views) == ()


def test_the_size_can_be_bounded():
    whole, _ = album()
    assert len(album(max_gaussians=500)[0].scene) == 500
    # Where everything is seen again, cells of a pixel hold a small part of all pixels.
    assert len(whole.scene) < 0.7 * 48 * 64 * len(NUMBERS)
    assert len(album(cell=0.3)[0].scene) < 0.5 * len(whole.scene)


def test_photos_that_do_not_fit_are_named_together():
    done, views = album()
    poor = Placement(FIRST.similarity, judge=lambda: 0.2)
    rest = (FIRST,) * (len(views) - 6)
    doubtful = replace(done, placements=(FIRST, poor, poor, FIRST, FIRST, poor, *rest))
    told = doubtful.warnings(views)
    assert [text.split(":")[0] for text in told] == ["image 1 to image 2", "image 5"]


@pytest.mark.parametrize("window", [2, 3])
def test_small_windows_will_do(window):
    views = views_of(frame.image for frame in frames(*NUMBERS))
    done = map_photos(StubPredictor(walk().places, resolution=64), views, window)
    assert len(done.scene.cameras) == len(views)
