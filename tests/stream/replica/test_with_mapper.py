"""The map of a mapper and its copy at the other end of the wire are the same."""

import numpy as np
import pytest

from ffsplat.stream.mapper import Mapper
from ffsplat.stream.protocol import Deltas, Kind, decode_delta, encode_delta, pack_delta, unpack
from ffsplat.stream.protocol.blocks import MAX_PART
from ffsplat.stream.protocol.document import write_document
from ffsplat.stream.replica.replica import Replica
from ffsplat.stream.settings import MapperSettings
from tests.stream.stub import Faults, StubPredictor
from tests.walks import preview_walk

FRAMES = 24
TIGHT = MapperSettings(
    max_splats=3000, max_submaps=3, keyframes_a_submap=2, max_keyframes=8, overlap=0.9
)
"""Bounds so small that Gaussians and submaps go all the time."""


@pytest.mark.slow
def test_copies_of_a_map_are_the_map():
    walk = preview_walk()
    mapper = Mapper(StubPredictor(walk.places, Faults(turn=0.3, move=0.01)), TIGHT)
    copy, late, deltas, removed = Replica(), Replica(), Deltas(), 0
    for number in range(FRAMES + 1):
        if number < FRAMES:
            frame = walk.frame(6 * number)
            mapper.add(frame.image, frame.time_ns, number=number)
        else:
            mapper.finish()
        delta = mapper.take_delta()
        if delta is None:
            continue
        removed += len(delta.removed_submaps)
        for message in pack_delta(delta):
            found = deltas.add(unpack(message, MAX_PART))
        assert found is not None
        kind, arrived = found
        assert kind is Kind.DELTA
        assert copy.apply(arrived)
        if number == FRAMES // 2:
            late.restore(decode_delta(encode_delta(copy.snapshot())))
        elif number > FRAMES // 2:
            late.apply(arrived)
    assert removed > 0
    assert write_document(late.snapshot()) == write_document(copy.snapshot())
    own, copied = mapper.scene(), copy.scene()
    assert len(own) == len(copied) > 1000
    for name in ("means", "scales", "quaternions_wxyz", "opacities"):
        mine, theirs = (np.sort(getattr(s.gaussians, name), axis=0) for s in (own, copied))
        np.testing.assert_allclose(np.abs(mine), np.abs(theirs), rtol=2e-3, atol=5e-3)
