"""From the engine's deltas to what sessions send: the replica, the ring and shared snapshots.

Deltas are applied and encoded in a thread of their own, so that mapping does not wait for
compression; the ring and all that sessions see changes in the event loop alone.
"""

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from ffsplat.stream.delta import MapDelta
from ffsplat.stream.protocol.blocks import pack_delta
from ffsplat.stream.protocol.header import Kind
from ffsplat.stream.replica.replica import Replica
from ffsplat.stream.server.ring import Entry, Ring
from ffsplat.stream.server.settings import ServerSettings

WAITING = 8
"""Deltas that may wait to be encoded; the engine waits when there are more."""

log = logging.getLogger(__name__)


class Feed:
    """Follows an engine: `publish` takes its deltas, in any thread, and sessions read `ring`.

    `healthy` turns false for good when a delta cannot be applied or encoded: then nothing that is
    sent can be trusted.
    """

    def __init__(self, replica: Replica, settings: ServerSettings, workers: Executor):
        self.replica = replica
        self.settings = settings
        self.ring = Ring(settings.ring_seconds, settings.max_ring_bytes)
        self.number = replica.number
        self.epoch = replica.epoch
        self.splats = len(replica)
        self.healthy = True
        self.listeners: set[asyncio.Event] = set()
        self._workers = workers
        self._waiting: queue.Queue[MapDelta | asyncio.Future[None] | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._work, name="ffsplat-publish", daemon=True)
        self._snapshot: asyncio.Task[Entry] | None = None
        self._ended = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to publish into this event loop."""
        self._loop = loop
        self._thread.start()

    def publish(self, delta: MapDelta) -> None:
        """Take the next delta; waits while WAITING of them wait, and takes none after the end."""
        self._put(delta)

    async def settled(self) -> int:
        """The number of the last delta, once all that was published before is in the ring."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await asyncio.to_thread(self._put, done)
        await done
        return self.number

    async def finish(self) -> None:
        """Return when all that was published before is in the ring; what follows is ignored."""
        await asyncio.to_thread(self._put, None)
        await asyncio.to_thread(self._thread.join)
        self._ended = True
        await asyncio.sleep(0)  # what the thread left for the loop comes before this

    def can_resume(self, number: int) -> bool:
        """Whether who has the map up to `number` needs no snapshot, and is not too far behind."""
        if number >= self.number:  # a snapshot may be ahead of the ring for a moment
            return True
        behind = self.ring.bytes_after(number)
        return self.ring.reaches(number) and behind <= self.settings.max_behind_bytes

    async def snapshot(self) -> Entry:
        """The whole map as messages; one that was made is used again while deltas lead on from it.

        All who wait at the same time get the same.
        """
        task = self._snapshot
        stale = (
            task is not None
            and task.done()
            and (task.exception() is not None or not self.can_resume(task.result().number))
        )
        if task is None or stale:
            loop = asyncio.get_running_loop()
            task = self._snapshot = loop.create_task(self._take_snapshot(loop))
        return await asyncio.shield(task)

    async def _take_snapshot(self, loop: asyncio.AbstractEventLoop) -> Entry:
        return await loop.run_in_executor(self._workers, self._encode_snapshot)

    def _encode_snapshot(self) -> Entry:
        delta = self.replica.snapshot()
        return Entry(delta.number, tuple(pack_delta(delta, Kind.SNAPSHOT)), time.monotonic())

    def _put(self, item: MapDelta | asyncio.Future[None] | None) -> None:
        while not self._ended:
            with contextlib.suppress(queue.Full):
                return self._waiting.put(item, timeout=1.0)
        return None

    def _work(self) -> None:
        """Apply and encode deltas until None comes; the thread's whole life."""
        while (item := self._waiting.get()) is not None:
            if isinstance(item, MapDelta):
                self._handle(item)
            else:
                self._call(lambda done: done.cancelled() or done.set_result(None), item)

    def _handle(self, delta: MapDelta) -> None:
        if not self.healthy:
            return
        try:
            if not self.replica.apply(delta):
                return  # the replica came with it
            splats = len(self.replica)
            entry = Entry(delta.number, tuple(pack_delta(delta)), time.monotonic())
        except Exception:  # whatever it is, the server must say that it is ill
            log.exception("delta %d cannot be published", delta.number)
            self.healthy = False
        else:
            self._call(self._append, entry, delta.epoch, splats)

    def _call(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Call a function in the event loop."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)

    def _append(self, entry: Entry, epoch: int, splats: int) -> None:
        self.ring.append(entry)
        self.number, self.epoch, self.splats = entry.number, epoch, splats
        for listener in self.listeners:
            listener.set()
