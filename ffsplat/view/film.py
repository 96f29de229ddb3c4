"""The orbit video of a page, drawn in a thread of its own, which nobody has to wait for."""

import threading
from collections.abc import Callable

from ffsplat.errors import FFSplatError, UsageError
from ffsplat.types import Scene
from ffsplat.view.outputs import ORBIT_FRAMES, orbit_video

FILM = "film"
"""Name of the thread; a command that ends does not wait for the frame that it draws."""


class Film:
    """Draws one video at a time.

    `run` calls an action and shows what goes wrong with it; `tell` is told how far it is.
    """

    def __init__(self, run: Callable[[Callable[[], None]], None], tell: Callable[[str], None]):
        self._run, self._tell = run, tell
        self._busy = threading.Lock()
        self._stopped = threading.Event()

    def start(
        self,
        scene: Scene,
        is_wanted: Callable[[], bool],
        deliver: Callable[[str, bytes], None],
    ) -> None:
        """Begin a video around a scene; `deliver` is given its name and content.

        It ends with an error when it is no longer wanted. Raises UsageError while one is drawn.
        """
        if not self._busy.acquire(blocking=False):
            raise UsageError("a video is being drawn", "wait until it is done")

        def draw() -> None:
            self._run(lambda: self._draw(scene, is_wanted, deliver))

        threading.Thread(target=draw, name=FILM).start()

    def stop(self) -> None:
        """Draw no further frame."""
        self._stopped.set()

    def _draw(
        self, scene: Scene, is_wanted: Callable[[], bool], deliver: Callable[[str, bytes], None]
    ) -> None:
        def tell(done: int) -> None:
            if self._stopped.is_set() or not is_wanted():
                raise FFSplatError("the page that wanted a video is gone")
            self._tell(f"drawing frame {done + 1} of {ORBIT_FRAMES}")

        try:
            name, content = orbit_video(scene, progress=tell)
        finally:
            self._busy.release()
        deliver(name, content)
        self._tell(f"{name} is among the downloads")
