"""Which views share a pass: all are in one, neighbours share some, none is nearly empty."""

from itertools import pairwise

import numpy as np
import pytest
from fakes import fake_prediction, fake_views

from ffsplat.chunks.some import take_prediction, take_views
from ffsplat.errors import UsageError


@pytest.mark.parametrize("views", [1, 2, 8, 9, 10, 23, 100, 201])
@pytest.mark.parametrize(("chunk_views", "overlap"), [(8, 2), (8, 4), (2, 1), (24, 6), (5, 4)])
def test_every_view_is_in_a_pass_and_neighbours_share(views, chunk_views, overlap):
    chunks = plan(views, chunk_views, overlap)
    assert sorted({row for chunk in chunks for row in chunk}) == list(range(views))
    assert max(map(len, chunks)) <= chunk_views
    assert max(map(len, chunks)) - min(map(len, chunks)) <= 1
    for before, after in pairwise(chunks):
        assert before.stop - after.start == overlap
        assert before.start < after.start
        assert before.stop < after.stop
    # As few as that takes: each pass but the first brings at most chunk_views - overlap views.
    fewest = 1 + max(0, -(-(views - chunk_views) // (chunk_views - overlap)))
    assert len(chunks) == fewest


def test_hand_made_plans():
    assert plan(8, 8) == [range(8)]
    assert plan(14, 8, 2) == [range(8), range(6, 14)]
    assert plan(9, 8, 2) == [range(6), range(4, 9)]
    assert plan(20, 8) == plan(20, 8, 2)
    assert plan(3, 2) == [range(2), range(1, 3)]


@pytest.mark.parametrize(("chunk_views", "overlap"), [(8, 8), (8, 0), (1, None), (8, 9)])
def test_passes_that_do_not_hang_together_are_refused(chunk_views, overlap):
    with pytest.raises(UsageError, match="cannot share"):
        plan(20, chunk_views, overlap)


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
