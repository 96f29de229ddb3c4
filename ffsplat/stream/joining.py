"""How the pixels of a keyframe join the map: what is left of a frame when its pose is known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int32

from ffsplat.alignment import Similarity
from ffsplat.chunks.some import take_prediction
from ffsplat.prediction import PixelMeaning
from ffsplat.stream.keyframes import Keyframe, places_of
from ffsplat.stream.map import SplatMap
from ffsplat.stream.map.meeting import Meeting, meet
from ffsplat.stream.observe import observe
from ffsplat.stream.window import Window
from ffsplat.types import NO_ID, Codebook

NEAR = 4
"""Submaps, beside the current one, whose cells a new Gaussian may join."""


@dataclass(frozen=True, eq=False)
class Joining:
    """View `row` of a window, which became `keyframe` at the time `now`, on its way into the map.

    `others` are the keyframes that it meets, by their rows; pixels in `moved` stay out.
    """

    window: Window
    row: int
    keyframe: Keyframe
    others: Mapping[int, Keyframe]
    moved: Bool[np.ndarray, "h w"] | None
    world_from_window: Similarity
    codebook: Codebook | None
    meaning: PixelMeaning | None
    now: int

    def __call__(self, splats: SplatMap) -> None:
        """Fuse its pixels, note in the keyframe where they went, and carve what it looks through.

        Nothing but the map and the `places` of the keyframe changes.
        """
        splats.clock = self.keyframe.stamp - 1  # as it is, unless a keyframe before failed
        submap, others = self.keyframe.submap, list(self.others.values())
        meeting = meet(self.window.prediction, self.window.kept, self.row, list(self.others))
        kept = meeting.kept if self.moved is None else meeting.kept & ~self.moved.ravel()
        near = dict.fromkeys(one.submap for one in others if one.submap != submap)
        said = take_prediction(self.window.prediction, [self.row])
        seen = observe(
            said, kept, self.world_from_window, self.codebook, self.meaning,
            targets(meeting, others, splats),
        )  # fmt: skip
        self.keyframe.places.reshape(-1)[kept] = splats.fuse(
            seen, submap, list(near)[:NEAR], self.now
        )
        if others:
            splats.carve(
                said.depth[0, 0].float().numpy() * np.float32(self.world_from_window.scale),
                self.world_from_window.poses(self.window.local_pose(self.row)[None])[0],
                said.intrinsics[0, 0].float().numpy(),
                said.depth_error[0, 0].float().numpy(),
                self.window.kept[self.row],
                sorted({*near, submap}),
            )


def targets(
    meeting: Meeting, others: Sequence[Keyframe], splats: SplatMap
) -> Int32[np.ndarray, " p"]:
    """Places that pixels of a new view join: those of the first pixel that agrees."""
    found = np.full(meeting.kept.shape, NO_ID, np.int32)
    for keyframe, pixels in zip(others, meeting.pixels, strict=True):
        places = places_of(keyframe, pixels)
        places = np.where(splats.valid_targets(places, keyframe.stamp), places, np.int32(NO_ID))
        found = np.where(found == NO_ID, places, found)
    return found
