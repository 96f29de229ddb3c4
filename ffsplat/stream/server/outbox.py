"""What a session sends next: answers first, then the map, as fast as its client reads.

Nothing piles up for a client that reads slowly. Of the map an outbox holds a place in the ring and
the messages of one entry; who falls too far behind gets a snapshot for the deltas in between.
Answers are few: who does not read them is not read from either.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from ffsplat.stream.protocol.control import MAX_ACKS, Ack, FrameAck, Health, ServerMessage, dump
from ffsplat.stream.server.counters import Counters
from ffsplat.stream.server.feed import Feed
from ffsplat.stream.server.ring import Entry

NOTHING = -1
"""The place of a client that has no map at all."""


class Outbox:
    """The messages of one session, in their order, for one writer.

    `place` is the number of the last delta that was handed out, None where no map is wanted.
    """

    def __init__(self, feed: Feed, place: int | None, max_replies: int, counters: Counters):
        self.place = place
        self.closing = False
        self._feed = feed
        self._max_replies = max_replies
        self._counters = counters
        self._replies: deque[str] = deque()
        self._acks: deque[FrameAck] = deque()
        self._flushed: deque[tuple[int, str]] = deque()
        self._health: Callable[[], Health] | None = None
        self._pieces: deque[bytes] = deque()
        self._entry: Entry | None = None
        self._snapshot: asyncio.Task[Entry] | None = None
        self.wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    def reply(self, message: ServerMessage) -> None:
        """Send an answer as soon as may be."""
        self._replies.append(dump(message))
        self._changed()

    def acknowledge(self, ack: FrameAck) -> None:
        """Send a verdict, together with others that wait."""
        self._acks.append(ack)
        self._changed()

    def reply_at(self, number: int, message: ServerMessage) -> None:
        """Send an answer after the delta of this number, which must be published."""
        self._flushed.append((number, dump(message)))
        self._changed()

    def offer_health(self, health: Callable[[], Health]) -> None:
        """Send how things stand, as they are when the client gets to reading it."""
        self._health = health
        self.wake.set()

    def close(self) -> None:
        """Let `next` end when all that there is has been handed out."""
        self.closing = True
        self.wake.set()

    async def room(self) -> None:
        """Return when few enough answers wait."""
        await self._room.wait()

    async def next(self) -> str | bytes | None:
        """The next message, when there is one; None when the outbox is closed and empty."""
        while True:
            message = self._answer() or self._piece()
            if message is not None:
                self._changed(wake=False)
                return message
            if self.closing and self._snapshot is None:
                return None
            self.wake.clear()
            await self.wake.wait()

    def _answer(self) -> str | None:
        if self._replies:
            return self._replies.popleft()
        if self._acks:
            batch = [self._acks.popleft() for _ in range(min(len(self._acks), MAX_ACKS))]
            return dump(Ack(tuple(batch)))
        if self._flushed and (self.place is None or self._flushed[0][0] <= self.place):
            return self._flushed.popleft()[1]
        if self._health is not None:
            health, self._health = self._health, None
            return dump(health())
        return None

    def _piece(self) -> bytes | None:
        """The next message of the map, None if the client has all of it or a snapshot is made."""
        if not self._pieces and (entry := self._next_entry()) is not None:
            self._entry = entry
            self._pieces.extend(entry.messages)
        if not self._pieces:
            return None
        piece = self._pieces.popleft()
        if not self._pieces and self._entry is not None:
            self.place, self._entry = self._entry.number, None
        return piece

    def _next_entry(self) -> Entry | None:
        """The next delta, or a snapshot where the deltas do not lead on."""
        if self.place is None:
            return None
        if self._snapshot is not None:
            if not self._snapshot.done():
                return None
            entry, self._snapshot = self._snapshot.result(), None
            self._counters.add("snapshots_total")
            return entry
        if self.place >= self._feed.number:
            return None
        if self.place != NOTHING and self._feed.can_resume(self.place):
            self._counters.add("deltas_sent_total")
            return self._feed.ring.after(self.place)
        if self.place != NOTHING:
            self._counters.add("deltas_skipped_total", self._feed.number - self.place)
        self._snapshot = asyncio.ensure_future(self._feed.snapshot())
        self._snapshot.add_done_callback(lambda _: self.wake.set())
        return None

    def _changed(self, wake: bool = True) -> None:
        count = len(self._replies) + len(self._acks) + len(self._flushed)
        (self._room.set if count < self._max_replies else self._room.clear)()
        if wake:
            self.wake.set()
