"""Frames that wait for the worker, and which of them goes when there are too many."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from ffsplat.stream.decoding import decode
from ffsplat.stream.frame import Frame, Verdict

DropPolicy = Literal["latest", "keyframe", "block"]
"""What a full queue does: lose the oldest frame, lose the one that shows least that is new, or let
the source wait."""

POLICIES = get_args(DropPolicy)

THUMBNAIL = (16, 12)
"""Width and height, in pixels, at which frames are compared."""

Thumbnail = Float32[np.ndarray, "12 16"]


@dataclass(eq=False)
class Ticket:
    """A frame on its way: who wants its verdict, and when it came by the monotonic clock.

    It was received as the `turn`-th of the stream.
    `settled` turns true once, when the verdict is known; `answered` when the mapper has told one.
    `wanted` says whether there is still somebody for whom it should be worked on.
    """

    frame: Frame
    done: Callable[[Verdict], None] | None
    arrived: float
    thumbnail: Thumbnail | None = None
    turn: int = 0
    settled: bool = False
    answered: bool = False
    wanted: Callable[[], bool] = lambda: True


class WaitingFrames:
    """At most `capacity` tickets in the order of their arrival, under a drop policy.

    Not safe to use from several threads at once: the engine holds its lock.
    """

    def __init__(self, capacity: int, policy: DropPolicy):
        self.capacity = capacity
        self.policy = policy
        self._tickets: deque[Ticket] = deque()
        self._taken: Thumbnail | None = None  # of the last that left for the worker

    def __len__(self) -> int:
        return len(self._tickets)

    @property
    def full(self) -> bool:
        """Whether the next ticket costs one."""
        return len(self._tickets) >= self.capacity

    @property
    def first(self) -> Ticket | None:
        """The oldest ticket, which stays."""
        return self._tickets[0] if self._tickets else None

    def put(self, ticket: Ticket) -> Ticket | None:
        """Let a ticket wait; returns the one that has to go for it, maybe itself."""
        if self.full and self.policy == "block":
            return ticket
        self._tickets.append(ticket)
        if len(self._tickets) <= self.capacity:
            return None
        place = 0 if self.policy == "latest" else self._least_news()
        loser = self._tickets[place]
        del self._tickets[place]
        return loser

    def take(self) -> Ticket | None:
        """The oldest ticket, None if none waits."""
        if not self._tickets:
            return None
        ticket = self._tickets.popleft()
        self._taken = ticket.thumbnail
        return ticket

    def _least_news(self) -> int:
        """The place of the frame that is most like the one before it; of equals the oldest."""
        pictures = [self._taken, *(ticket.thumbnail for ticket in self._tickets)]
        news = [difference(*pair) for pair in pairwise(pictures)]
        return min(range(len(news)), key=news.__getitem__)


def difference(before: Thumbnail | None, after: Thumbnail | None) -> float:
    """Mean absolute difference of two thumbnails, in grey levels; infinite if one is missing."""
    if before is None or after is None:
        return float("inf")
    return float(np.abs(before - after).mean())


def thumbnail(
    image: bytes | UInt8[np.ndarray, "h w 3"], max_bytes: int, max_megapixels: int | float
) -> Thumbnail:
    """A frame's picture in grey levels at THUMBNAIL size.

    Its mean is taken out, so that a camera which adapts its exposure does not look like one that
    moves.
    A JPEG is decoded at 1/8 of its size, which spares most of the work; PNG and WebP are decoded
    whole. Raises RefusedImage for bytes that `decode` refuses.
    """
    if isinstance(image, bytes):
        limits = {"max_bytes": max_bytes, "max_megapixels": max_megapixels}
        image = decode(image, resolution=max(THUMBNAIL), **limits).pixels
    grey = Image.fromarray(np.ascontiguousarray(image)).convert("L")
    small = np.asarray(grey.resize(THUMBNAIL, Image.Resampling.BILINEAR), np.float32)
    return small - small.mean()
