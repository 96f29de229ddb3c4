"""Which keyframes go through the network with new frames."""

import numpy as np
from jaxtyping import Float64

from ffsplat.stream.atlas import Atlas
from ffsplat.stream.keyframes import Keyframe
from ffsplat.stream.revisits import Revisits


def is_young(atlas: Atlas | None, window: int) -> bool:
    """Whether one window, of so many views, still sees all keyframes."""
    return atlas is None or len(atlas.keyframes) < window - 1


def choose_past(
    atlas: Atlas | None,
    revisits: Revisits,
    window: int,
    new: int,
    given: Float64[np.ndarray, "4 4"] | None = None,
) -> list[Keyframe]:
    """The keyframes of a window with some new frames, the first said to be at `given`.

    Near ones come first, then perhaps one that closes a loop. Asked again, it answers at once.
    """
    if atlas is None or not len(atlas.keyframes):
        return []
    room = max(1, window - new)
    candidate = revisits.candidate
    if candidate is not None and (candidate not in atlas.keyframes or room < 2):
        candidate = revisits.candidate = None
    # A frame was probably taken where its sender says, or where the last one was.
    guess, count = atlas.last_pose() if given is None else given, room - (candidate is not None)
    least = len(atlas.keyframes) if is_young(atlas, window) else 1
    latest = [atlas.latest] if atlas.latest is not None and count > least else []
    near = atlas.near(guess, count - len(latest), candidate)
    back = [] if candidate is None else [atlas.keyframes[candidate]]
    return [*near, *latest, *back]
