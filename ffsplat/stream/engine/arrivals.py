"""Whether a frame is new and in order, for cameras whose clocks are not to be trusted."""

from collections import deque
from typing import Literal

SECOND = 1_000_000_000

CLOCK_JUMP_S = 10.0
"""A stamp that is off by more than this, in seconds, shows a clock that was set."""

CONFIRMATIONS = 5
"""Frames in line with one another that it takes to believe a clock that jumped."""

GAP_S = 1.0
"""Seconds between two stamps from which on frames are missing."""

REMEMBERED = 256
"""Frames that are known again."""


class Arrivals:
    """Checks the number and stamp of each frame against those that were accepted before it.

    Stamps may stand still but not go back. A stamp far ahead is used, but the others are not
    measured by it; one far behind is late; until CONFIRMATIONS frames in a row were out of line the
    same way, then their clock holds. So one wrong stamp harms nothing, and a clock that was set
    costs a few frames. Far is more than CLOCK_JUMP_S, ahead also the time that really passed. A
    frame is known again by number and stamp together: who sends again what was lost says both, who
    starts again says the numbers alone. Not safe to use from several threads at once.
    """

    def __init__(self) -> None:
        self.jumps = 0
        """Times that the clock went far ahead or far back."""
        self.gaps = 0
        """Times that more than GAP_S passed from one stamp to the next."""
        self._newest: int | None = None
        self._arrived = 0.0
        self._doubted: int | None = None  # the last stamp that was out of line
        self._confirmed = 0
        self._seen: deque[tuple[int, int]] = deque(maxlen=REMEMBERED)

    def check(self, number: int, time_ns: int, now: float) -> Literal["late", "repeated"] | None:
        """Why a frame that comes `now` (monotonic, in seconds) is refused; None accepts it."""
        if (number, time_ns) in self._seen:
            return "repeated"
        if self._newest is None:
            return self._believe(number, time_ns, now)
        ahead = (time_ns - self._newest) / SECOND
        if ahead < -CLOCK_JUMP_S or ahead > CLOCK_JUMP_S + now - self._arrived:
            return self._doubt(number, time_ns, now)
        if ahead < 0:
            return "late"
        self.gaps += ahead > GAP_S
        return self._believe(number, time_ns, now)

    def _believe(self, number: int, time_ns: int, now: float) -> None:
        """Measure the frames that follow by this one."""
        self._newest, self._arrived, self._doubted = time_ns, now, None
        self._seen.append((number, time_ns))

    def _doubt(self, number: int, time_ns: int, now: float) -> Literal["late"] | None:
        """Wait whether the next frames confirm a stamp that is out of line."""
        assert self._newest is not None
        behind = time_ns < self._newest
        if self._doubted is None or not self._follows(time_ns, behind):
            self.jumps += 1
            self._confirmed = 0
        self._doubted = time_ns
        self._confirmed += 1
        if self._confirmed == CONFIRMATIONS:
            return self._believe(number, time_ns, now)
        if behind:
            return "late"
        self._seen.append((number, time_ns))
        return None

    def _follows(self, time_ns: int, behind: bool) -> bool:
        """Whether a stamp is out of line the same way as the last, and not before it."""
        assert self._doubted is not None
        assert self._newest is not None
        return time_ns >= self._doubted and behind == (self._doubted < self._newest)
