import bz2

import lz4.frame
import pytest

from ffsplat.errors import StreamError
from ffsplat.stream.ros.compression import decompress, kind_of, zstd_compress

DATA = bytes(range(256)) * 50
PACKED = {"zstd": zstd_compress(DATA), "bz2": bz2.compress(DATA), "lz4": lz4.frame.compress(DATA)}


@pytest.mark.parametrize("kind", PACKED)
def test_blocks_come_back_and_tell_what_they_are(kind):
    assert kind_of(PACKED[kind]) == kind
    assert decompress(PACKED[kind], kind, len(DATA)) == DATA
    assert decompress(PACKED[kind] * 2, kind, 2 * len(DATA)) == DATA * 2


@pytest.mark.parametrize("kind", PACKED)
def test_no_more_is_unpacked_than_may_be(kind):
    with pytest.raises(StreamError, match="more than the 1000 bytes"):
        decompress(PACKED[kind], kind, 1000)
    with pytest.raises(StreamError, match="damaged"):
        decompress(PACKED[kind][:-20], kind, 10 * len(DATA))
    with pytest.raises(StreamError, match="damaged"):
        decompress(b"nonsense", kind, 1000)


def test_plain_blocks_stay_and_unknown_kinds_are_refused():
    assert decompress(DATA, "", len(DATA)) == DATA
    with pytest.raises(StreamError):
        decompress(DATA, "", 10)
    with pytest.raises(StreamError, match="rar"):
        decompress(DATA, "rar", len(DATA))
