"""What became of the frames of a stream, in numbers that add up."""

from collections.abc import Mapping
from dataclasses import dataclass

from ffsplat.stream.frame import DROPPED, USED


@dataclass(frozen=True)
class Counters:
    """Frames by what became of them, all at one moment: received = processed + dropped + queued.

    `processed` by verdict and `dropped` by reason have every key from the start. `queued` are the
    waiting frames and the one in work.
    """

    received: int
    processed: Mapping[str, int]
    dropped: Mapping[str, int]
    queued: int

    @property
    def balanced(self) -> bool:
        """Whether no frame is missing, and none is counted twice."""
        settled = sum(self.processed.values()) + sum(self.dropped.values())
        return self.received == settled + self.queued


class Tally:
    """Counts that rise; whoever holds the engine's lock may change and read them."""

    def __init__(self) -> None:
        self.received = 0
        self._processed = dict.fromkeys(USED, 0)
        self._dropped = dict.fromkeys(DROPPED, 0)

    def settle(self, reason: str) -> None:
        """Count the verdict on a frame; KeyError if there is no such verdict."""
        counts = self._processed if reason in self._processed else self._dropped
        counts[reason] += 1

    def counters(self, queued: int) -> Counters:
        """The counts at this moment, with `queued` frames that have no verdict yet."""
        return Counters(self.received, dict(self._processed), dict(self._dropped), queued)
