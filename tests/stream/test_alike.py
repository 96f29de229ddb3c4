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
    grey = views.colors[[source, target]] / 255 @ [0.299, 0.587, 0.114]
    greys = grey.reshape(2, HEIGHT // 2, 2, WIDTH // 2, 2).mean((2, 4))
    (sight,) = look(views, source, [target], 2)
    rows, columns = np.mgrid[1.5:HEIGHT:2, 1.5:WIDTH:2]
    one, other = (
        map_coordinates(values, [y / 2 - 0.5, x / 2 - 0.5], order=1, mode="nearest")
        for values, y, x in zip(greys, (rows, sight.y), (columns, sight.x), strict=True)
    )
    size = WIDTH // 2 // WINDOW | 1
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
    views.usable[0, 0:4, 0:10] = False
    (sight,), (found,) = look(views, 0, [1], 2), compare(views, 0, [1])
    assert found.usable == views.usable[0, 1::2, 1::2].sum() == HEIGHT * WIDTH // 4 - 10
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
