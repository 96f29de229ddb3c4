"""How alike views are, against the same done step by step with filters of scipy."""

from dataclasses import replace

import numpy as np
import pytest
from boxroom import cameras
from scipy.ndimage import map_coordinates, uniform_filter

from ffsplat.stream.alike import CONTRAST, FILLED, WINDOW, between, compare
from ffsplat.stream.sight import look
from tests.stream.boxviews import HEIGHT, WIDTH, box_views, posed


def mean(values, size):
    """Means of windows, as far as they lie in the picture."""
    inside = uniform_filter(np.ones(values.shape), size, mode="constant")
    return uniform_filter(values.astype(float), size, mode="constant") / inside


def expected(views, source, target):
    """The weighted mean of correlations, filter by filter."""
    (sight,), grey = look(views, source, [target]), views.grey.astype(float)
    places = [np.clip(sight.y - 0.5, 0, HEIGHT - 1), np.clip(sight.x - 0.5, 0, WIDTH - 1)]
    there = map_coordinates(grey[target], places, order=1, mode="nearest")
    one, other = (mean(mean(values, 3), 3) for values in (grey[source], there))
    size = WIDTH // WINDOW | 1
    seen = sight.agrees
    share = mean(seen, size)

    def local(values):
        return mean(values * seen, size) / np.maximum(share, 1e-9)

    spreads = [np.maximum(local(v * v) - local(v) ** 2, 0) for v in (one, other)]
    contrast = np.sqrt(np.maximum(*spreads))
    used = seen & (share > FILLED) & (contrast > CONTRAST)
    least = 0.1 * CONTRAST**2
    both = np.sqrt(np.maximum(spreads[0], least) * np.maximum(spreads[1], least))
    correlation = (local(one * other) - local(one) * local(other)) / both
    return np.average(correlation[used], weights=contrast[used])


@pytest.mark.parametrize("seeds", [0, (0, 7)])
def test_likeness_is_that_of_filters(seeds):
    views = posed(box_views(cameras(2, seed=1)[0], seeds))
    views.depth[0, 20:40, 30:60] *= 1.5
    (sight,), (found,) = look(views, 0, [1]), compare(views, 0, [1])
    assert (found.inside, found.agreeing) == (sight.inside.sum(), sight.agrees.sum())
    assert 0.3 < found.agreeing / found.inside < 0.95
    assert found.likeness == pytest.approx(expected(views, 0, 1), abs=1e-3)


def test_a_view_is_like_itself_and_nothing_where_nothing_is_shown():
    views = posed(box_views(cameras(2, seed=1)[0]))
    assert compare(views, 0, [0])[0].likeness == pytest.approx(1, abs=1e-4)
    plain = replace(views, colors=np.full_like(views.colors, 127))
    assert compare(plain, 0, [1])[0].likeness == 0


def test_sampling_is_linear_between_pixels_and_constant_outside():
    image = np.array([[0, 1, 2], [4, 5, 6]], np.float32)
    places = [(0.5, 0.5), (1, 0.5), (0.5, 1.5), (-3, 0), (9, 9)]
    found = [between(image, np.float32(x), np.float32(y)) for x, y in places]
    np.testing.assert_allclose(found, [0, 0.5, 4, 0, 6])
