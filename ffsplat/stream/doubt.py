"""What is done for a frame that its window does not prove: it is looked at beside other views.

Views of something else only confuse a network, so the frame goes through it beside the last one
alone. If that proves nothing either, the camera has turned far or come back from elsewhere, and the
keyframe that looks most like the frame may show where.

Measured with ffsplat-tiny on three procedural rooms, a shelf, a desk and two offices, in large
steps or with a jump back: colours confirm 13 of 27 such keyframes, and the turn to these is off by
0 to 6 degrees, where that to the last frame was off by 4 to 171.
"""

from collections.abc import Callable, Collection

from ffsplat.stream.atlas import Atlas
from ffsplat.stream.keyframes import Keyframe
from ffsplat.stream.loops import confirm_loop, global_descriptor
from ffsplat.stream.placing import DOUBT, Tie, surest, ties
from ffsplat.stream.window import Window, is_finite


def look_again(
    atlas: Atlas, window: Window, tied: list[Tie], beside: Callable[[Keyframe], Window]
) -> tuple[Window, list[Tie]]:
    """A window that proves where its first new frame is, if one view beside it can, and its ties.

    `beside` sends one keyframe and the new frames through the network, and is called twice at most.
    Without proof the window is that with the last frame.
    """
    last = beside(atlas.doubtful or atlas.last_placed())
    if not is_finite(last.prediction):
        return window, tied
    alone = ties(last, 1, [0])
    old = most_alike(atlas, last, {one.number for one in (*window.past, *last.past)})
    if surest(alone) > DOUBT and old is not None:
        back = beside(old)
        if is_finite(back.prediction) and confirm_loop(back.posed, 0, 1).ok:
            return back, ties(back, 1, [0])
    return last, alone


def most_alike(atlas: Atlas, window: Window, but: Collection[int]) -> Keyframe | None:
    """The keyframe that looks most like the first new frame of a window; none numbered in `but`."""
    alike = atlas.memory.likeness(global_descriptor(window.prediction, len(window.past)))
    numbers = [number for number in alike if number not in but]
    return atlas.keyframes[max(numbers, key=alike.__getitem__)] if numbers else None
