"""What is alike to a Gaussian that was clicked."""

from dataclasses import replace

import numpy as np
import pytest
from small_room import small_room

from ffsplat import codes
from ffsplat.errors import UsageError
from ffsplat.types import LEVELS
from ffsplat.view.pointing import like

ROOM = small_room(100)


def test_the_instance():
    assert like(ROOM, 40, "instance").nonzero()[0].tolist() == list(range(30, 50))


def test_the_code_of_other_instances_too():
    two = replace(ROOM, instances=np.arange(100, dtype=np.int32) // 10)
    assert like(two, 40, "instance").sum() == 10
    assert like(two, 40, "code").nonzero()[0].tolist() == list(range(30, 50))


def test_the_part_within_the_instance():
    book = ROOM.codebook
    parts = np.flatnonzero(book.levels == LEVELS.index("part"))[:2]
    ids = np.stack([ROOM.codes.ids[:, 0], parts[np.arange(100) % 2]], axis=1).astype(np.int16)
    parted = replace(ROOM, codes=codes.from_pairs(ids, np.full((100, 2), 0.5), 4))
    assert like(parted, 31, "part").nonzero()[0].tolist() == list(range(31, 50, 2))


def test_without_instance_or_code_it_is_alone():
    alone = replace(ROOM, instances=np.full(100, -1, np.int32))
    assert like(alone, 3, "instance").nonzero()[0].tolist() == [3]
    assert like(ROOM, 3, "part").nonzero()[0].tolist() == [3]


def test_other_ways_are_refused():
    with pytest.raises(UsageError, match="unknown way"):
        like(ROOM, 0, "smell")
    with pytest.raises(UsageError, match="no instances"):
        like(replace(ROOM, instances=None), 0, "instance")
