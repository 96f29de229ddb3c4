"""Memory that the allocator keeps for later, though nobody may ever ask for so much again."""

import ctypes
import sys

_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None

EVERY_S = 60.0
"""Seconds between two times that memory is given back.

What frames need for a moment comes in all sizes, and the allocator keeps the room between what is
left: with a stub for its network, a map of constant size grew by 0.1 GB within 1000 frames. Where
memory was given back at every 500th, it stayed within 2 MB; that takes 4 to 8 ms.
"""


def give_back() -> None:
    """Give free memory back to the system, where the C library can (glibc)."""
    trim = getattr(_LIBC, "malloc_trim", None)
    if trim is not None:
        trim(0)
