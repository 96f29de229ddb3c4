"""The walk that most tests of streams follow, rendered once for all of them."""

from functools import cache

from data.rooms import SPLITS
from data.rooms.walk import Walk, endless_walk


@cache
def preview_walk() -> Walk:
    """Once round a room that is small and quick to map, in pictures of 48 x 64; do not write."""
    return endless_walk(SPLITS["preview"][2], 48, 64, rounds=1)
