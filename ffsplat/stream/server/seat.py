"""Whose frames make the map: those of one session at a time, as two cameras make no walk."""

import asyncio
import time

from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from ffsplat.stream.server.gate import Gate

SIGN_OF_LIFE = 2.0
"""Seconds that a camera has to answer when another one wants its place."""

RECENT = 0.5
"""Seconds since a camera was heard within which nobody asks: else it had to answer for each frame
of each other one."""


class Seat:
    """The place of the camera: the first who sends a frame has it until its connection ends.

    A connection that broke off unnoticed would keep out the very camera that comes back, so whoever
    finds the place taken has the holder pinged, which loses it if nothing comes. To be used in one
    event loop.
    """

    def __init__(self) -> None:
        self._holder: Gate | None = None

    async def take(self, gate: Gate) -> bool:
        """Whether the place is that of `gate` now; waits up to SIGN_OF_LIFE seconds for it."""
        holder = self._holder
        if holder not in (None, gate) and await _lives(holder):
            return False
        if self._holder is holder:  # nobody else came first
            self._holder = gate
        return self._holder is gate

    def leave(self, gate: Gate) -> None:
        """Let another one have the place, if it was that of `gate`."""
        if self._holder is gate:
            self._holder = None


async def _lives(holder: Gate) -> bool:
    """Whether anything comes from a connection that is pinged; one from which nothing does is cut.

    Frames are a sign of life too: pings may wait behind answers that a camera is slow to read.
    """
    asked = time.monotonic()
    if holder.state is State.OPEN and asked - holder.heard < RECENT:
        return True
    try:
        async with asyncio.timeout(SIGN_OF_LIFE):
            await (await holder.ping())
        return True
    except (TimeoutError, ConnectionClosed):
        pass
    if holder.heard > asked and not holder.is_leaving:
        return True
    holder.transport.abort()
    return False
