"""What a stream's engine needs of a mapper; `Mapper` has it, and so have stand-ins in tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

from ffsplat.stream.delta import MapDelta
from ffsplat.stream.frame import Verdict


@runtime_checkable
class OnlineMapper(Protocol):
    """Takes frames one by one, in one thread, and says what changed in the map."""

    resolution: int
    """Longer side, in pixels, of what the network sees: larger pictures are a waste."""

    @property
    def epoch(self) -> int:
        """How often the poses of submaps were corrected."""
        ...

    def add(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        time_ns: int | None = None,
        pose: Float[np.ndarray, "4 4"] | None = None,
        intrinsics: Float[np.ndarray, "3 3"] | None = None,
        *,
        number: int | None = None,
        size: tuple[int, int] | None = None,
        cancelled: Callable[[], bool] = lambda: False,
        tell: Callable[[Verdict], None] = lambda verdict: None,
    ) -> Verdict:
        """Place a frame, and fuse it if it is a keyframe.

        `size` (width, height) is that of the picture as it was sent, if `image` is a smaller
        version; `intrinsics` is in its pixels. `cancelled` is asked after the network: if true, the
        map stays as it was ("timeout"). `tell` may be called with the verdict, once, before the map
        takes the frame in: who waits for the pose need not wait for that. What is returned is the
        same with all that was done. Raises what the network raises.
        """
        ...

    def take_delta(self) -> MapDelta | None:
        """All that changed since the last call, None if nothing did."""
        ...

    def save(self, path: Path) -> Path:
        """Write the whole state to one file, atomically; `Mapper.load` goes on from it."""
        ...
