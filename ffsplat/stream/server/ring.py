"""The last deltas, as they go over the wire, for clients that come back or read slowly."""

from collections import deque
from dataclasses import dataclass

OVERHEAD = 512
"""Bytes that an entry counts for besides its messages, so that many small ones are bounded too."""


@dataclass(frozen=True, eq=False)
class Entry:
    """A delta, or a snapshot, as messages: a client that has sent all of them on has `number`."""

    number: int
    messages: tuple[bytes, ...]
    time: float

    @property
    def size(self) -> int:
        """Bytes that it counts for."""
        return OVERHEAD + sum(map(len, self.messages))


class Ring:
    """Deltas of consecutive numbers: those of the last `seconds`, in at most `max_bytes`.

    `bytes` is what is held. To be used in one thread.
    """

    def __init__(self, seconds: float, max_bytes: int):
        self.seconds = seconds
        self.max_bytes = max_bytes
        self.bytes = 0
        self._entries: deque[Entry] = deque()
        self._ends: deque[int] = deque()  # bytes of all entries ever, up to and with each

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def number(self) -> int | None:
        """The number of the newest delta, None if there is none."""
        return self._entries[-1].number if self._entries else None

    def append(self, entry: Entry) -> None:
        """Add the next delta and forget what is too old or too much.

        After a gap in the numbers nothing that was here helps anybody, so it goes.
        """
        if self.number is not None and entry.number != self.number + 1:
            self._entries.clear()
            self._ends.clear()
            self.bytes = 0
        self._ends.append((self._ends[-1] if self._ends else 0) + entry.size)
        self._entries.append(entry)
        self.bytes += entry.size
        while self._entries and (
            self.bytes > self.max_bytes or self._entries[0].time < entry.time - self.seconds
        ):
            self._ends.popleft()
            self.bytes -= self._entries.popleft().size

    def reaches(self, number: int) -> bool:
        """Whether who has all up to `number` can go on from here."""
        return bool(self._entries) and self._entries[0].number - 1 <= number <= (self.number or 0)

    def after(self, number: int) -> Entry | None:
        """The delta that follows `number`, None if there is none or it is gone."""
        place = number + 1 - self._entries[0].number if self._entries else -1
        return self._entries[place] if 0 <= place < len(self._entries) else None

    def bytes_after(self, number: int) -> int:
        """Bytes of all deltas after `number`; all of them if that is further back."""
        if not self._entries:
            return 0
        place = number - self._entries[0].number
        if place < 0:
            return self.bytes
        return self._ends[-1] - self._ends[min(place, len(self._ends) - 1)]
