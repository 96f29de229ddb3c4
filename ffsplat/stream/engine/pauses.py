"""What lets a process pause in the midst of a frame, though the frame could go on."""

import gc
import sys

TURN_S = 1e-4
"""Seconds after which a thread that runs Python lets another one go on.

A frame gives the interpreter up at every kernel. With Python's own 5 ms it then waits that long for
the threads beside it, several times a frame: that is what its slowest frames consisted of.
"""


def pause_less() -> None:
    """Have frames wait less for other threads and for the garbage collector, in this process.

    For a process that does nothing but stream, once the network is loaded: whatever exists by then
    is never looked through for garbage again. With torch that takes 0.1 s at a time.
    """
    sys.setswitchinterval(min(TURN_S, sys.getswitchinterval()))
    gc.freeze()


def still_pause_less() -> None:
    """Spare what has come up since as well, if this is such a process."""
    if gc.get_freeze_count():
        gc.freeze()
