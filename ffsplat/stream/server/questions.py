"""What a session asks for besides frames: queries and flushes, few at a time."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

from ffsplat.stream.protocol.control import Error, Flush, Flushed, Query
from ffsplat.stream.protocol.errors import RATE, TIMEOUT
from ffsplat.stream.server.intake import Intake
from ffsplat.stream.server.limits import TokenBucket
from ffsplat.stream.server.outbox import Outbox
from ffsplat.stream.server.queries import search
from ffsplat.stream.server.services import Services

AT_ONCE = 4
"""Questions of a session that may be open; more are refused."""

SLICE = 0.5
"""Seconds that a thread waits for the engine at a time, so that it ends soon after its client."""


class Questions:
    """Answers each question in its own time; none of them holds up the frames of the session."""

    def __init__(self, services: Services, outbox: Outbox, intake: Intake):
        self._services = services
        self._outbox = outbox
        self._intake = intake
        self._bucket = TokenBucket(services.settings.max_queries, time.monotonic())
        self._open: set[asyncio.Task[None]] = set()
        self._flushing = asyncio.Lock()

    def take(self, message: Query | Flush) -> None:
        """Begin to answer, or refuse with an `Error` that says when to ask again."""
        counters = self._services.counters
        fits = self._bucket.take(time.monotonic())
        if not fits or len(self._open) >= AT_ONCE:
            counters.add("queries_total", outcome="refused")
            wait = max(1, round(1000 * self._bucket.wait()))
            what = "too many questions"
            self._outbox.reply(Error(RATE, what, "", True, wait, message.id))
        elif isinstance(message, Query):
            self._begin(self._search(message))
        else:
            self._begin(self._flush(message))

    def cancel(self) -> None:
        """Forget what is open; a search that has begun ends in its thread, unheard."""
        for task in self._open:
            task.cancel()

    def _begin(self, answer: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(answer)
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _search(self, asked: Query) -> None:
        loop, services = asyncio.get_running_loop(), self._services
        answer = await loop.run_in_executor(services.workers, search, services.feed.replica, asked)
        outcome = "failed" if isinstance(answer, Error) else "answered"
        services.counters.add("queries_total", outcome=outcome)
        self._outbox.reply(answer)

    async def _flush(self, asked: Flush) -> None:
        """Wait until the frames so far are in the map, and that is on its way to the client."""
        services, patience = self._services, self._services.settings.idle
        try:
            async with asyncio.timeout(patience), self._flushing:
                await self._intake.settled()
                await self._published(services.engine.counters().received)
                number = await services.feed.settled()
        except TimeoutError:
            why = f"the frames are not done after {patience:g} s"
            self._outbox.reply(Error(TIMEOUT, why, retryable=True, id=asked.id))
        else:
            self._outbox.reply_at(number, Flushed(asked.id, number))

    async def _published(self, received: int) -> None:
        """Return when the engine gave out what its first `received` frames changed."""
        loop, engine = asyncio.get_running_loop(), self._services.engine
        threads = self._services.waiting
        while not await loop.run_in_executor(threads, engine.flush, SLICE, received):
            if not engine.alive:
                raise TimeoutError
