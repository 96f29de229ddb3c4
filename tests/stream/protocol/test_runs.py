import base64

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from ffsplat.stream.protocol.errors import MALFORMED, ProtocolError
from ffsplat.stream.protocol.runs import decode_gids, encode_gids


def sorted_gids(*gids: int) -> np.ndarray:
    return np.array(sorted(set(gids)), np.int64)


def test_the_text_is_that_of_the_specification():
    assert encode_gids(sorted_gids(5, 6, 7, 300), 100) == "BQOkAgE="
    assert decode_gids("BQOkAgE=", 4).tolist() == [5, 6, 7, 300]


@settings(deadline=None)
@given(some.lists(some.integers(0, 300) | some.integers(0, 2**32 - 1)))
def test_any_gids_come_back(gids):
    rising = sorted_gids(*gids)
    text = encode_gids(rising, 10_000)
    assert decode_gids(text, len(rising)).tolist() == rising.tolist()


def test_ends_of_the_range_come_back():
    for gids in ([], [0], [2**32 - 1], [0, 2**32 - 1], list(range(1000)), list(range(0, 999, 2))):
        assert decode_gids(encode_gids(sorted_gids(*gids), 10_000), len(gids)).tolist() == gids


def test_what_does_not_fit_is_left_out():
    gids = sorted_gids(*range(0, 1000, 3))
    text = encode_gids(gids, 10_000)
    assert encode_gids(gids, len(text)) == text
    assert encode_gids(gids, len(text) - 1) is None
    assert encode_gids(gids, 10) is None


@pytest.mark.parametrize(
    ("numbers", "count"),
    [
        (b"\x05", 0),  # half a run
        (b"\x05\x00", 0),  # an empty run
        (b"\x05\x01\x00\x01", 2),  # two runs that are one
        (b"\x05\x02", 3),  # another count
        (b"\x05\x83", 3),  # half a number
        (b"\x80\x80\x80\x80\x80\x01\x01", 1),  # a number of six bytes
        (b"\xff\xff\xff\xff\x0f\x02", 2),  # one gid beyond 2^32
        (b"\x00\xff\xff\xff\xff\x7f", 1),  # far more than are told
        (b"\x00\xff\xff\xff\xff\x0f", 2**32 - 1),  # gigabytes
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_allocated(numbers, count):
    with pytest.raises(ProtocolError) as caught:
        decode_gids(base64.b64encode(numbers).decode(), count)
    assert caught.value.code == MALFORMED


@pytest.mark.parametrize("text", ["BQM", "BQ\nM=", "BQM=x", "ü"])
def test_what_is_no_base64_is_refused(text):
    with pytest.raises(ProtocolError):
        decode_gids(text, 3)
