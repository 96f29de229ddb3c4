"""The splats on the pages: sent again only where they differ, fewer while a camera moves."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from ffsplat.types import Gaussians
from ffsplat.view.detail import Motion, Pace, importance, inflation, sampled
from ffsplat.view.packing import colored, inflated, nothing, parts_of, shapes
from ffsplat.view.slots import FEWEST_OF_MAP, Slots, Words

if TYPE_CHECKING:
    import viser


@dataclass(frozen=True, eq=False)
class Picture:
    """What is to be shown: colours and opacities of Gaussians, which of them, and in which parts.

    Gaussians of one group are sent together, and only if one of them changed.
    """

    gaussians: Gaussians
    colors: Float32[np.ndarray, "n 3"]
    opacities: Float32[np.ndarray, " n"]
    visible: Bool[np.ndarray, " n"]
    groups: Int[np.ndarray, " n"] | None = None


class Packer:
    """Makes the parts of a picture, and keeps the shapes of Gaussians that stay the same."""

    def __init__(self) -> None:
        self._gaussians: Gaussians | None = None
        self._shapes: Words = nothing()

    def parts(
        self, picture: Picture, budget: int, pose: Float[np.ndarray, "4 4"]
    ) -> dict[int, Words]:
        """The visible Gaussians by their part.

        If they are over budget, those that matter most to a camera of this pose stand for all.
        """
        total = int(picture.visible.sum())
        shown = min(total, budget)
        # All of them are taken as they lie: a million rows are slow to gather.
        rows = slice(None) if shown == len(picture.visible) else np.flatnonzero(picture.visible)
        if shown < total:
            values = importance(picture.gaussians[rows], pose)
            rows = np.flatnonzero(picture.visible)[sampled(values, shown)]
        words = colored(
            self._shapes_of(picture.gaussians)[rows], picture.colors[rows], picture.opacities[rows]
        )
        if shown < total:
            words = inflated(words, inflation(shown, total))
        if picture.groups is None or not shown:
            return {0: words if shown else nothing()}
        groups = picture.groups[rows] // max(1, total // shown)  # fewer of each: more fit together
        return {group: words[members] for group, members in parts_of(groups)}

    def _shapes_of(self, gaussians: Gaussians) -> Words:
        old = self._gaussians
        columns = ("means", "scales", "quaternions_wxyz")
        if old is None or any(getattr(old, c) is not getattr(gaussians, c) for c in columns):
            self._shapes = shapes(gaussians)
        self._gaussians = gaussians
        return self._shapes


class Screen:
    """A thread that shows the newest picture, as much of it as the pages can bear.

    `look` gives the picture; it is called when `request` was, however often that was since.
    `drawn` is how many Gaussians the pages have now, and of how many.
    """

    def __init__(self, server: "viser.ViserServer", look: Callable[[], Picture], most: int):
        self.pace = Pace()
        self.slots = Slots(server)
        self.drawn = (0, 0)
        self.on_drawn: Callable[[], None] = lambda: None
        self._look, self._most = look, most
        self._packer = Packer()
        self._picture: Picture | None = None
        self._motions: dict[int, Motion] = {}
        self._pose = np.eye(4)
        self._wanted, self._stale, self._stopped, self._busy = True, True, False, False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="screen", daemon=True)

    def start(self) -> None:
        """Begin to show."""
        self._thread.start()

    def stop(self) -> None:
        """Show no more."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join()

    def request(self) -> None:
        """The picture changed."""
        with self._changed:
            self._stale = self._wanted = True
            self._changed.notify()

    def note_camera(self, page: int, pose: Float[np.ndarray, "4 4"]) -> None:
        """The camera of a page moved to a pose (world_from_camera)."""
        with self._changed:
            self._pose = pose
            picture = self.pace.seconds(self.drawn[0])
            if self._motions.setdefault(page, Motion()).note(time.monotonic(), picture):
                self._wanted = True
                self._changed.notify()

    def told(self, count: int, seconds: float) -> None:
        """A page took so long for a picture."""
        with self._changed:
            self.pace.told(count, seconds)
            self._wanted = True
            self._changed.notify()

    def forget(self, page: int) -> None:
        """A page is gone."""
        with self._changed:
            self._motions.pop(page, None)

    @property
    def is_moving(self) -> bool:
        """Whether the camera of any page moves."""
        return any(motion.is_moving for motion in self._motions.values())

    @property
    def is_settled(self) -> bool:
        """Whether no camera moves, and what was requested has been sent."""
        with self._changed:
            return not (self.is_moving or self._wanted or self._busy)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._settle(time.monotonic())
                if not (self._wanted or self._stopped):
                    self._changed.wait(self._patience(time.monotonic()))
                    self._settle(time.monotonic())
                if self._stopped:
                    return
                if not self._wanted:
                    continue
                stale, self._wanted, self._stale, self._busy = self._stale, False, False, True
                budget = min(self._most, self.pace.budget(self.is_moving))
            try:
                self._show(stale, budget)
            except Exception:
                logging.getLogger(__name__).exception("a picture could not be shown")
            self._busy = False

    def _show(self, stale: bool, budget: int) -> None:
        if stale or self._picture is None:
            self._picture = self._look()
        total = int(self._picture.visible.sum())
        parts = self._packer.parts(self._picture, budget, self._pose)
        self.slots.show(parts, 0 if self._picture.groups is None else FEWEST_OF_MAP)
        self.drawn = (min(total, budget), total)
        self.on_drawn()

    def _settle(self, now: float) -> None:
        """End motions."""
        for motion in self._motions.values():
            if motion.rest(now):
                self._wanted = self._stale = True  # depth is measured from where the camera rests

    def _patience(self, now: float) -> float | None:
        """Seconds until a motion may end, None for no end."""
        ends = [motion.ends_at for motion in self._motions.values() if motion.is_moving]
        return max(0.0, min(ends) - now) if ends else None
