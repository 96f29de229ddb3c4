"""Selections: the hits of a query, an instance, a box."""

from dataclasses import replace

import numpy as np
import pytest
from small_room import small_room

from ffsplat.edit import select, select_box, select_instance
from ffsplat.errors import UnknownWord, UsageError


def test_a_text_selects_what_its_hits_hold():
    room = small_room()
    np.testing.assert_array_equal(select(room, "table"), np.arange(1000) < 300)
    both = select(room, "furniture")
    np.testing.assert_array_equal(both, np.arange(1000) < 500)
    np.testing.assert_array_equal(select(room, "furniture", max_hits=1), np.arange(1000) < 300)


def test_nothing_found_is_nothing_selected():
    room = small_room()
    assert not select(room, "lamp").any()
    assert not select(room, "table", threshold=1.5).any()
    with pytest.raises(UnknownWord):
        select(room, "tabel")


def test_whole_instances_take_what_did_not_match_itself():
    room = small_room()
    assert room.codes is not None
    assert room.codebook is not None
    ids = room.codes.ids.copy()
    ids[:100, 0] = room.codebook.names.index("sofa")  # a third of the table is taken for a sofa
    mixed = replace(room, codes=replace(room.codes, ids=ids))
    assert np.count_nonzero(select(mixed, "table")) == 200
    whole = select(mixed, "table", whole_instances=True)
    np.testing.assert_array_equal(whole, np.arange(1000) < 300)


def test_an_instance_by_number():
    room = small_room()
    np.testing.assert_array_equal(select_instance(room, 1), room.instances == 1)
    assert not select_instance(room, 9).any()
    assert not select_instance(room, -1).any()
    with pytest.raises(UsageError, match="no instances"):
        select_instance(replace(room, instances=None), 0)


def test_a_box_has_its_faces():
    room = small_room()
    means = room.gaussians.means
    chosen = select_box(room, means[7], means[7])
    assert chosen[7]
    assert np.count_nonzero(chosen) == 1
    table = select_box(room, np.array([-0.3, -0.3, 1.7]), np.array([0.3, 0.3, 2.3]))
    np.testing.assert_array_equal(table, np.arange(1000) < 300)


@pytest.mark.parametrize("high", [-1.0, np.nan, np.inf])
def test_a_box_without_inside_is_refused(high):
    with pytest.raises(UsageError, match="no box"):
        select_box(small_room(), np.zeros(3), np.full(3, high))
