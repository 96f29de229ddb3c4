"""A map that grows: a replica that follows a stream's server, shown while it changes."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlsplit

import numpy as np
from jaxtyping import Bool, Int64

from ffsplat.errors import FFSplatError, StreamError
from ffsplat.stream.client import Client
from ffsplat.stream.replica.replica import Replica
from ffsplat.types import Gaussians, Scene
from ffsplat.view.slots import SLOT
from ffsplat.view.viewer import Viewer

PATH = "/stream"
"""Where a server streams, if the address does not say."""

PATIENCE = 60.0
"""Seconds for a server that is away to come back."""

GLANCE_SECONDS = 1.0
"""Between two looks at whether the server is there."""

BREATH_SECONDS = 0.5
"""Between two looks at the map: a picture costs more than a delta."""


def stream_url(text: str) -> str:
    """The address of a stream, with the usual path where it has none."""
    parts = urlsplit(text)
    return text if parts.path.strip("/") or not parts.netloc else text.rstrip("/") + PATH


def empty_scene() -> Scene:
    """What is shown before the first delta."""
    nothing = np.zeros((0, 3), np.float32)
    none = np.zeros(0, np.float32)
    quaternions = np.zeros((0, 4), np.float32)
    return Scene(Gaussians(nothing, nothing, quaternions, none, np.zeros((0, 1, 3), np.float32)))


def carried(
    chosen: Bool[np.ndarray, " n"], before: Int64[np.ndarray, " n"], now: Int64[np.ndarray, " m"]
) -> Bool[np.ndarray, " m"]:
    """A choice among the places `before` as one among the places `now`."""
    return np.isin(now, before[chosen])


class Follower:
    """Threads that follow a server and show its map in a viewer until they are stopped.

    `tell` is given a line when the stream has ended, which leaves the map as it is.
    """

    def __init__(self, url: str, viewer: Viewer, token: str, tell: Callable[[str], None]):
        self._url, self._token = stream_url(url), token
        self._viewer, self._tell = viewer, tell
        self._places = np.zeros(0, np.int64)
        self._replica: Replica | None = None
        self._loop = asyncio.new_event_loop()
        self._changed, self._stopped = threading.Event(), threading.Event()
        self._came: asyncio.Task[None] | None = None
        self._ready = threading.Event()
        self.failure: FFSplatError | None = None
        self._threads = [
            threading.Thread(target=self._listen, name="stream", daemon=True),
            threading.Thread(target=self._watch, name="map", daemon=True),
        ]

    def start(self) -> None:
        """Begin to follow. Raises StreamError or ProtocolError if the server lets nobody in."""
        self._threads[0].start()
        self._ready.wait()
        if self.failure is not None:
            raise self.failure
        self._threads[1].start()

    def stop(self) -> None:
        """Follow no longer."""
        self._stopped.set()
        self._changed.set()
        if self._came is not None:
            with suppress(RuntimeError):  # the stream has ended by itself, and closed its loop
                self._loop.call_soon_threadsafe(self._came.cancel)
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _listen(self) -> None:
        """The thread of the connection."""
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._talk())
        except asyncio.CancelledError:
            pass
        except FFSplatError as error:
            self._end(error)
        finally:
            self._ready.set()

    async def _talk(self) -> None:
        self._came = asyncio.current_task()
        async with Client(
            self._url, token=self._token, role="viewer", want=("delta",), patience=PATIENCE
        ) as client:
            self._replica = client.replica
            self._ready.set()
            minding = asyncio.create_task(self._mind(client))
            try:
                async for _ in client:
                    self._changed.set()
            finally:
                minding.cancel()
        self._end(StreamError("the server has closed"))

    async def _mind(self, client: Client) -> None:
        """Say when the server goes away, and when it has come back."""
        was = True
        while True:
            await asyncio.sleep(GLANCE_SECONDS)
            if client.is_connected != was:
                was = client.is_connected
                text = (
                    "is there again" if was else "is away: the map stays as it was until it is back"
                )
                self._viewer.panel.say(f"the server {text}", error=not was)

    def _end(self, error: FFSplatError) -> None:
        self.failure = error
        if self._ready.is_set() and not self._stopped.is_set():
            self._tell(f"the stream has ended: {error}")
            self._viewer.panel.say(f"the stream has ended: {error}", error=True)

    def _watch(self) -> None:
        """The thread of the picture."""
        while not self._stopped.is_set():
            self._changed.wait()
            self._changed.clear()
            if self._stopped.is_set():
                return
            self._show()
            self._stopped.wait(BREATH_SECONDS)

    def _show(self) -> None:
        assert self._replica is not None  # there was a change
        scene, places = self._replica.scene_and_gids()
        before, self._places = self._places, places
        # New Gaussians mostly lie beside each other: few slots change, and all are full.
        self._viewer.follow(scene, places // SLOT, lambda chosen: carried(chosen, before, places))
