"""The quick comparison of one view with others says what `consistency` says."""

import numpy as np
import pytest
import torch

from ffsplat.consistency import VETO, look, maps_of, points_of
from ffsplat.stream.map.meeting import meet
from tests.stream.stub import Faults, StubPredictor
from tests.stream.test_stub import frames, views_of, walk


@pytest.mark.parametrize("faults", [Faults(), Faults(depth=0.1, turn=1, move=0.02, bad=0.1)])
def test_it_agrees_with_the_maps_of_consistency(faults):
    views = views_of(frame.image for frame in frames(0, 4, 9, 14))
    said = StubPredictor(walk().places, faults).predict(views)
    kept = torch.from_numpy(np.random.default_rng(0).random((1, 4, 48, 64)) < 0.9)
    new, others = 2, [0, 3]
    found = meet(said, kept[0].numpy(), new, others)
    maps, points = maps_of(said, kept[0]), points_of(said, kept)[new]
    support = maps.columns[new, :, 3].clone()
    veto = torch.zeros_like(support)
    expected = []
    for other in others:
        sight = look(points, maps, new, other)
        support += sight.confidence * sight.agrees
        veto += sight.confidence.nan_to_num(0) * sight.veils
        expected.append(torch.where(sight.agrees, sight.pixel, -1).numpy())
    stays = (kept[0, new].flatten() & ~(veto > VETO * support)).numpy()
    # Points that fall on the edge of a pixel, in other precision, may fall into the next one.
    assert (found.kept == stays).mean() > 0.995
    assert (found.pixels == np.stack(expected))[:, found.kept].mean() > 0.995
    agreed = (found.pixels >= 0).any(0) & found.kept
    assert 0.3 < agreed.sum() / found.kept.sum() < 1


def test_a_view_alone_keeps_its_pixels_and_meets_nothing():
    views = views_of(frame.image for frame in frames(3))
    said = StubPredictor(walk().places).predict(views)
    kept = np.random.default_rng(1).random((1, 48, 64)) < 0.5
    found = meet(said, kept, 0, [])
    np.testing.assert_array_equal(found.kept, kept.ravel())
    assert found.pixels.shape == (0, 48 * 64)


def test_a_wall_that_others_look_through_goes():
    views = views_of(frame.image for frame in frames(0, 2))
    said = StubPredictor(walk().places).predict(views)
    wrong = said.depth.clone()
    wrong[0, 1, 10:30, 20:40] *= 0.5
    broken = StubPredictor(walk().places).predict(views)
    object.__setattr__(broken, "depth", wrong)
    kept = np.ones((2, 48, 64), bool)
    before, after = meet(said, kept, 1, [0]), meet(broken, kept, 1, [0])
    gone = (before.kept & ~after.kept).reshape(48, 64)
    assert gone[12:28, 22:38].mean() > 0.9
    gone[10:30, 20:40] = False
    assert not gone.any()
