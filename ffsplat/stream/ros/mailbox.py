"""Messages on their way from the thread that receives them to the one that uses them."""

import threading
from collections import deque
from dataclasses import dataclass

MAX_PICTURES = 2
MAX_OTHERS = 1000
"""Transforms and camera infos that wait; those are small."""


@dataclass(frozen=True, eq=False)
class Parcel:
    """A message as it came: CDR of `type_name`, or an encoded picture where that is empty."""

    topic: str
    type_name: str
    received_ns: int
    data: bytes


class Mailbox:
    """Bounded in number on both sides: the oldest goes when there is no room.

    Of pictures, `missed` counts those; transforms that came before a picture are given before it.
    """

    def __init__(self) -> None:
        self.missed = 0
        self._pictures: deque[Parcel] = deque()
        self._others: deque[Parcel] = deque(maxlen=MAX_OTHERS)
        self._closed = False
        self._changed = threading.Condition()

    def put(self, parcel: Parcel, is_picture: bool) -> None:
        """Leave a message; from any thread, and it never waits."""
        with self._changed:
            if is_picture and len(self._pictures) >= MAX_PICTURES:
                self._pictures.popleft()
                self.missed += 1
            (self._pictures if is_picture else self._others).append(parcel)
            self._changed.notify_all()

    def get(self) -> Parcel | None:
        """Wait for a message; None once it is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._pictures or self._others or self._closed)
            if self._closed:
                return None
            return (self._others or self._pictures).popleft()

    def close(self) -> None:
        """Give nothing any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
