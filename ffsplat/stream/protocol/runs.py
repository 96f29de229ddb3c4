"""Which Gaussians a hit is of, as a short text: runs of gids, in base64 (PROTOCOL.md, section 2).

Gaussians of one object were mostly mapped together, so their places in the map are neighbours.
"""

import base64
import binascii
from typing import NoReturn

import numpy as np
from jaxtyping import Int64, UInt32, UInt64

from ffsplat.stream.protocol.errors import MALFORMED, ProtocolError

MOST = 2**32
"""No gid is as large."""

MOST_GIDS = 2**22
"""Gids that a text may tell of: a few bytes could stand for gigabytes."""

MAX_BYTES = 5
"""Bytes of a number below MOST, seven bits in each."""


def encode_gids(gids: Int64[np.ndarray, " n"], room: int) -> str | None:
    """Rising gids as text, None if that has more than `room` characters, or tells of too many."""
    starts = np.flatnonzero(np.diff(gids, prepend=-2) > 1)
    if 2 * len(starts) > room or len(gids) > MOST_GIDS:  # no number takes less than a byte
        return None
    lengths = np.diff(starts, append=len(gids))
    ends = gids[starts] + lengths
    gaps = gids[starts] - np.append(0, ends[:-1]) if len(starts) else lengths
    numbers = np.stack([gaps, lengths], axis=1).reshape(-1).astype(np.uint64)
    text = base64.b64encode(_packed(numbers)).decode()
    return text if len(text) <= room else None


def decode_gids(text: str, count: int) -> UInt32[np.ndarray, " count"]:
    """The gids in a text; ProtocolError (4400) unless they are `count` rising ones."""
    starts, lengths = decode_runs(text, count)
    before = np.cumsum(lengths) - lengths
    return (np.repeat(starts - before, lengths) + np.arange(count)).astype(np.uint32)


def decode_runs(
    text: str, count: int
) -> tuple[Int64[np.ndarray, " runs"], Int64[np.ndarray, " runs"]]:
    """The first gid of each run in a text and how many are in it; refuses as `decode_gids`."""
    try:
        packed = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        _refuse("are no base64")
    numbers = _unpacked(np.frombuffer(packed, np.uint8))
    if len(numbers) % 2:
        _refuse("end within a run")
    gaps, lengths = numbers.reshape(-1, 2).T
    # Thousands of numbers below 2^35: no sum overflows.
    ends = np.cumsum(gaps + lengths)
    if (lengths == 0).any() or (gaps[1:] == 0).any() or (ends > MOST).any():
        _refuse("are no runs below 2^32")
    if count > MOST_GIDS or lengths.sum() != count:
        _refuse(f"are not {count}, or over {MOST_GIDS}")
    return ends - lengths, lengths


def _packed(numbers: UInt64[np.ndarray, " n"]) -> bytes:
    """Seven bits a byte, the lowest first; the highest bit says that more follow (LEB128)."""
    shifts = np.arange(0, 7 * MAX_BYTES, 7, dtype=np.uint64)
    parts = numbers[:, None] >> shifts
    rest = parts >> np.uint64(7)
    used = (parts > 0) | (shifts == 0)
    more = np.where(rest > 0, 128, 0).astype(np.uint64)
    return ((parts & 127) | more).astype(np.uint8)[used].tobytes()


def _unpacked(packed: np.ndarray) -> Int64[np.ndarray, " n"]:
    last = np.flatnonzero(packed < 128)
    if len(packed) and (not len(last) or last[-1] != len(packed) - 1):
        _refuse("end within a number")
    first = np.append(0, last[:-1] + 1) if len(last) else last
    if len(last) and (last - first).max() >= MAX_BYTES:
        _refuse("hold too long a number")
    place = np.arange(len(packed)) - np.repeat(first, last - first + 1)
    bits = (packed & 127).astype(np.int64) << (7 * place)
    return np.add.reduceat(bits, first) if len(first) else bits


def _refuse(why: str) -> NoReturn:
    raise ProtocolError(MALFORMED, f"hits: the gids {why}")
