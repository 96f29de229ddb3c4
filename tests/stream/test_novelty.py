"""What is new in a view, against the maps of `consistency` and by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ffsplat.consistency import look, maps_of, points_of
from ffsplat.stream.canvas import Canvas
from ffsplat.stream.clock import Clock
from ffsplat.stream.novelty import APART, is_new, known_share, news_of
from ffsplat.stream.window import Arrival, Window, see
from tests.stream.stub import Faults, StubPredictor
from tests.stream.test_stub import frames, walk

FAULTS = Faults(), Faults(depth=0.1, turn=1, move=0.02)


def window_of(*numbers: int, faults: Faults = FAULTS[0]) -> Window:
    canvas = Canvas(64, 8)
    arrivals = [Arrival(one.number, 0, canvas.fit(one.image)) for one in frames(*numbers)]
    return see(StubPredictor(walk().places, faults, 64), [], arrivals, 0.0, Clock(), anew=True)


@pytest.mark.parametrize("faults", FAULTS)
def test_what_is_known_is_what_consistency_calls_so(faults):
    window = window_of(0, 4, 9, 14, faults=faults)
    kept = torch.from_numpy(window.kept[None])
    maps = maps_of(window.prediction, kept[0])
    points = points_of(window.prediction, kept)[2]
    known = np.any([look(points, maps, 2, other).agrees.numpy() for other in (0, 3)], axis=0)
    expected = (known & window.kept[2].ravel()).sum() / window.kept[2].sum()
    assert known_share(window, 2, [0, 3]) == pytest.approx(expected, abs=0.02)
    assert 0.3 < expected < 1


def test_pixels_that_are_left_out_do_not_count():
    window = window_of(0, 4)
    window.kept[1, :, 32:] = False
    sees = window.posed.sights(1, [0])[0].agrees
    assert known_share(window, 1, [0]) == pytest.approx(sees[:, :16].mean(), abs=0.01)


def test_a_view_is_new_to_none_by_what_it_shows_or_by_where_it_is():
    window = window_of(0, 1, 20)
    assert is_new(window, 0, [], 0.0)
    assert not is_new(window, 1, [0], 0.5)
    assert is_new(window, 1, [0], 1.01)
    assert is_new(window, 2, [0], 0.5)
    moved = window.posed.world_from_camera.copy()
    moved[1, :3, 3] += 2 * APART * window.middle(1)
    far = replace(window, posed=replace(window.posed, world_from_camera=moved))
    assert is_new(far, 1, [0], 0.0)


def test_what_moved_is_told_of_new_views_alone():
    window = window_of(0, 2, 4, 6)
    painted = window.posed.colors.copy()
    painted[3, 8:40, 16:48] = [250, 5, 240]
    window = replace(window, posed=replace(window.posed, colors=painted))
    assert news_of(window, 3, [0, 1, 2], 0.0).moved is None
    news = news_of(window, 3, [0, 1, 2], 1.01)
    assert news.new
    assert news.moving == news.moved.mean() > 0.1
    assert news.moved[8:40, 16:48].sum() > 0.9 * news.moved.sum()
