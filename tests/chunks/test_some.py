"""Some of the views of a set, and what is said of them."""

import numpy as np
from fakes import fake_prediction, fake_views

from ffsplat.chunks.some import take_prediction, take_views


def test_some_views_and_what_is_said_of_them():
    views, prediction = fake_views(v=4), fake_prediction(v=4)
    some = take_views(views, range(1, 3))
    assert [source.name for source in some.sources] == ["1.jpg", "2.jpg"]
    assert len(some) == 2
    taken = take_prediction(prediction, [3, 1])
    np.testing.assert_array_equal(taken.depth[0], prediction.depth[0, [3, 1]])
    np.testing.assert_array_equal(taken.whole_logits[0], prediction.whole_logits[0, [3, 1]])
    assert taken.scale is prediction.scale
    assert taken.meaning_opacities is None


def test_what_is_said_of_views_side_by_side_is_not_copied():
    prediction = fake_prediction(v=4)
    taken = take_prediction(prediction, range(1, 3))
    np.testing.assert_array_equal(taken.depth[0], prediction.depth[0, [1, 2]])
    assert taken.depth.data_ptr() == prediction.depth[0, 1].data_ptr()
    assert take_prediction(prediction, []).depth.shape[1] == 0
